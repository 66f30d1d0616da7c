// An Express application with the OpenTelemetry SDK as it comes: nothing here knows of a sidecar.
//
// PORT: where it listens. NEXT: its sidecar's outbound listener. GET /call/<number> asks `next` for /seen/<number>.
// Each span that ended is a line of JSON on standard output.

const { SpanKind } = require('@opentelemetry/api');
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { NodeTracerProvider, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-node');

const lines = {
  export(spans, done) {
    for (const span of spans) {
      const { traceId, spanId } = span.spanContext();
      const parent = span.parentSpanContext ? span.parentSpanContext.spanId : null;
      console.log(JSON.stringify({ trace_id: traceId, span_id: spanId, parent_id: parent, kind: SpanKind[span.kind] }));
    }
    done({ code: 0 });
  },
  shutdown: () => Promise.resolve(),
};

new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(lines)] }).register();
registerInstrumentations({ instrumentations: [new HttpInstrumentation()] });

const express = require('express');
const http = require('http');

const app = express();
const NEXT = process.env.NEXT;

app.get('/call/:number', (request, response) => {
  http.get(`${NEXT}/seen/${request.params.number}`, { headers: { host: 'next' } }, (answer) => {
    response.status(answer.statusCode);
    answer.pipe(response);
  }).on('error', (error) => response.status(502).send(String(error)));
});

app.listen(Number(process.env.PORT), '127.0.0.1');
