// An Express application that copies the context from what it serves to what it calls.
//
// PORT: where it listens. NEXT: its sidecar's outbound listener. GET /call/<number> asks `next` for /seen/<number>.

const express = require('express');
const http = require('http');

const app = express();
const NEXT = process.env.NEXT;

const CONTEXT = ['traceparent', 'tracestate', 'baggage', 'x-request-id'];
const context = (request) =>
  Object.fromEntries(CONTEXT.filter((name) => name in request.headers).map((name) => [name, request.headers[name]]));

app.get('/call/:number', (request, response) => {
  const headers = { ...context(request), host: 'next' };
  http.get(`${NEXT}/seen/${request.params.number}`, { headers }, (answer) => {
    response.status(answer.statusCode);
    answer.pipe(response);
  }).on('error', (error) => response.status(502).send(String(error)));
});

app.listen(Number(process.env.PORT), '127.0.0.1');
