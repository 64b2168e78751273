// What Ferrule takes as requests, node's own parser takes as the same ones: `http_fuzz --emit 1 --executions N | node node_differential.js`.
// Each line of the input is a stream of bytes and the requests that Ferrule has found in it; see tests/http/fuzz/main.cpp.
'use strict';

process.removeAllListeners('warning');
process.on('warning', () => {});  // that the binding is node's own
const { HTTPParser, methods } = process.binding('http_parser');
const readline = require('readline');

const text = (hexadecimal) => Buffer.from(hexadecimal, 'hex').toString('latin1');
// Node leaves white space at the end of a value to its callers.
const trimmed = (value) => value.replace(/[ \t]+$/, '');

// The whole messages that node finds, up to the first thing that it refuses.
function messagesOf(bytes) {
  const messages = [];
  let current;
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {});
  const gather = (list) => { current.fields.push(...list); };
  parser[HTTPParser.kOnMessageBegin] = () => { current = { fields: [], body: [], url: '', headed: false }; };
  // Heads of many fields come in parts; so do trailers, which are not compared.
  parser[HTTPParser.kOnHeaders] = (headers, url) => {
    if (current.headed) return;
    gather(headers);
    current.url += url;
  };
  parser[HTTPParser.kOnHeadersComplete] = (major, minor, headers, method, url) => {
    if (headers) gather(headers);
    if (url) current.url += url;
    current.method = methods[method];
    current.headed = true;
    return 0;
  };
  parser[HTTPParser.kOnBody] = (body) => { current.body.push(Buffer.from(body)); };
  parser[HTTPParser.kOnMessageComplete] = () => {
    messages.push([current.method, current.url, Buffer.concat(current.body).toString('latin1'),
                   ...current.fields.map((part, index) => (index % 2 ? trimmed(part) : part))]);
  };
  parser.execute(bytes);
  return messages;
}

let streams = 0;
let requests = 0;
let failed = false;
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  if (failed) return;
  const [stream, ...ours] = line.split(' ');
  const theirs = messagesOf(Buffer.from(stream, 'hex'));
  ++streams;
  for (let index = 0; index < ours.length; ++index) {
    const message = ours[index].split(',').map(text);
    if (!methods.includes(message[0])) break;
    if (JSON.stringify(theirs[index]) !== JSON.stringify(message)) {
      console.error(`request ${index} of ${JSON.stringify(text(stream))}\nis ${JSON.stringify(message)}\nto node ${JSON.stringify(theirs[index])}`);
      failed = true;
      process.exitCode = 1;
      return;
    }
    ++requests;
  }
}).on('close', () => {
  console.log(`node ${process.version}, llhttp ${process.versions.llhttp}: ${requests} requests of ${streams} streams are the same`);
  if (requests === 0) process.exitCode = 1;
});
