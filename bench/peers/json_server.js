// The JSON answers of the arena, by node's own server and encoder, in one process.
'use strict';
const fs = require('fs');
const http = require('http');

const options = {};
for (let index = 2; index + 1 < process.argv.length; index += 2) options[process.argv[index]] = process.argv[index + 1];
const items = JSON.parse(fs.readFileSync(options['--dataset'], 'utf8'));

function answerTo(target) {
    const question = target.indexOf('?');
    const path = question < 0 ? target : target.slice(0, question);
    if (!path.startsWith('/json/')) return null;
    const count = Number(path.slice('/json/'.length));
    const factor = Number(new URLSearchParams(question < 0 ? '' : target.slice(question + 1)).get('m'));
    if (!Number.isInteger(count) || !Number.isInteger(factor) || count < 1 || count > items.length) return null;
    const result = new Array(count);
    for (let index = 0; index < count; ++index) {
        const item = items[index];
        result[index] = {
            id: item.id, name: item.name, category: item.category, price: item.price, quantity: item.quantity, active: item.active,
            tags: item.tags, rating: item.rating, total: item.price * item.quantity * factor,
        };
    }
    return JSON.stringify({items: result, count});
}

const server = http.createServer((request, response) => {
    const body = answerTo(request.url);
    if (body === null) {
        response.writeHead(404, {'Content-Length': 0}).end();
        return;
    }
    response.writeHead(200, {'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body)}).end(body);
});
server.keepAliveTimeout = 0;
server.listen(Number(options['--port']), '127.0.0.1');
