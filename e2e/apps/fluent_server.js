// A Fluent forward server as it comes: the one of @fluent-org/logger, which acknowledges every chunk that asks for it.
//
// PORT: where it listens. SHARED_KEY: the key of its handshake, and then it knows the user ann, too; without it there is no
// handshake. Each entry is a line of JSON on standard output.

const { FluentServer } = require('@fluent-org/logger');

const sharedKey = process.env.SHARED_KEY;
const security = sharedKey && {
  serverHostname: 'fluent-server',
  sharedKey,
  authorize: true,
  userDict: { ann: 'correct horse' },
};
const listenOptions = { host: '127.0.0.1', port: Number(process.env.PORT) };

const server = new FluentServer({ security, listenOptions });
server.on('entry', (tag, time, record) => {
  console.log(JSON.stringify({ tag, seconds: time.epoch, nanos: time.nano, record }));
});
server.listen();
