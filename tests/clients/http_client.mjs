// node's clients of HTTP. Usage: http_client.mjs agent|fetch|undici URL, which says "all is well" when it is; or http_client.mjs autocannon URL
// CONNECTIONS [REQUESTS], a load of so many, or until SIGINT, which then says what it has counted. FERRULE_NODE_MODULES has undici and
// autocannon.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { createRequire } from 'node:module';

const [part, url, connections, amount] = process.argv.slice(2);
const fromModules = name => createRequire(path.resolve(process.env.FERRULE_NODE_MODULES, 'anything.js'))(name);
const lines = count => Array.from({ length: count }, (_, number) => `line ${number + 1}\n`).join('');
const range = count => Array.from({ length: count }, (_, number) => number);

// The answer of http.request with its body, and whether its connection had been used before.
function ask(agent, target, { method = 'GET', headers = {}, pieces = [], trailers = null } = {}) {
    return new Promise((resolve, reject) => {
        const request = http.request(url + target, { agent, method, headers });
        let continued = false;
        request.on('continue', () => { continued = true; });
        request.on('error', reject);
        request.on('response', async answer => {
            const port = answer.socket.localPort;
            try {
                const chunks = [];
                for await (const chunk of answer) chunks.push(chunk);
                resolve({ answer, body: Buffer.concat(chunks), reused: request.reusedSocket, continued, port });
            } catch (error) {
                reject(error);
            }
        });
        const send = () => {
            for (const piece of pieces) request.write(piece);
            if (trailers) request.addTrailers(trailers);
            request.end();
        };
        if (headers.Expect) {
            request.on('continue', send);
            request.flushHeaders();
        } else {
            send();
        }
    });
}

async function agent() {
    const one = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (const number of range(20)) {
        const { answer, body, reused } = await ask(one, `/hello/${number}`);
        assert.equal(answer.statusCode, 200);
        assert.equal(body.toString(), `hello, ${number}\n`);
        assert.equal(reused, number > 0);
    }
    const data = randomBytes(500_000);
    const pieces = range(50).map(number => data.subarray(number * 10_000, (number + 1) * 10_000));
    for (const options of [
        { headers: { 'Content-Length': data.length } },
        {},
        { headers: { Trailer: 'X-Sum' }, trailers: { 'X-Sum': '1' } },
        { headers: { Expect: '100-continue' } },
    ]) {
        const { answer, body, reused, continued } = await ask(one, '/echo', { method: 'POST', pieces, ...options });
        assert.equal(answer.statusCode, 200);
        assert.ok(body.equals(data));
        assert.equal(continued, options.headers?.Expect !== undefined);
        assert.ok(reused);
    }
    for (const [method, target, status] of [
        ['HEAD', '/hello/you', 200], ['OPTIONS', '/echo', 204], ['DELETE', '/echo', 405], ['GET', '/nowhere', 404], ['GET', '/status/204', 204],
        ['GET', '/status/304', 304], ['HEAD', '/stream/9', 200],
    ]) {
        const { answer, body, reused } = await ask(one, target, { method });
        assert.ok(answer.statusCode === status || (method === 'OPTIONS' && answer.statusCode === 200), `${method} ${target}: ${answer.statusCode}`);
        if (method === 'HEAD' || status < 400) assert.equal(body.length, 0);
        assert.ok(reused);
    }
    assert.equal((await ask(one, '/stream/1000')).body.toString(), lines(1000));

    // Many at once, over few connections.
    const few = new http.Agent({ keepAlive: true, maxSockets: 4 });
    const answers = await Promise.all(range(200).map(number => ask(few, `/hello/${number}`)));
    answers.forEach(({ body }, number) => assert.equal(body.toString(), `hello, ${number}\n`));
    assert.equal(new Set(answers.map(({ port }) => port)).size, 4);
    one.destroy();
    few.destroy();
}

async function fetchAll() {
    assert.equal(await (await fetch(url)).text(), 'ok');
    assert.deepEqual(await (await fetch(`${url}/users/12/posts/34`)).json(), { user: 12, post: 34 });
    const object = { a: [1, 2.5, null], 'ä': '\u{1f600}' };
    const echoed = await fetch(`${url}/echo`, { method: 'POST', body: JSON.stringify(object), headers: { 'Content-Type': 'application/json' } });
    assert.equal(echoed.headers.get('content-type'), 'application/json');
    assert.deepEqual(await echoed.json(), object);

    const form = new FormData();
    form.set('text', 'words, and more');
    form.set('file', new Blob([new Uint8Array(100_000).fill(7)]), 'a name');
    const returned = await (await fetch(`${url}/echo`, { method: 'POST', body: form })).formData();
    assert.equal(returned.get('text'), 'words, and more');
    assert.deepEqual(new Uint8Array(await returned.get('file').arrayBuffer()), new Uint8Array(100_000).fill(7));

    // A body whose length is not known, and which goes on while its beginning comes back.
    const pieces = range(100).map(number => new Uint8Array(10_000).fill(number));
    const upload = new ReadableStream({
        pull(controller) {
            if (pieces.length > 0) controller.enqueue(pieces.shift());
            else controller.close();
        },
    });
    const streamed = await fetch(`${url}/echo`, { method: 'POST', body: upload, duplex: 'half' });
    const whole = new Uint8Array(await streamed.arrayBuffer());
    assert.equal(whole.length, 1_000_000);
    assert.ok(whole.every((byte, index) => byte === Math.floor(index / 10_000)));

    assert.equal(await (await fetch(`${url}/stream/1000`)).text(), lines(1000));
    const plain = await fetch(`${url}/compressed`, { headers: { 'Accept-Encoding': 'identity' } });
    assert.equal(plain.headers.get('content-encoding'), null);
    const compressed = await fetch(`${url}/compressed`);
    assert.ok(['gzip', 'br'].includes(compressed.headers.get('content-encoding')));
    assert.equal(await compressed.text(), await plain.text());

    for (const method of ['HEAD', 'OPTIONS', 'PUT']) {
        const answer = await fetch(`${url}/hello/you`, { method });
        assert.equal(answer.status === 405, method === 'PUT', `${method}: ${answer.status}`);
        await answer.arrayBuffer();
    }
    for (const status of [204, 304, 404, 500]) assert.equal((await fetch(`${url}/status/${status}`)).status, status);

    const events = await fetch(`${url}/events?count=5&ms=1`);
    assert.match(events.headers.get('content-type'), /^text\/event-stream/);
    assert.equal(await events.text(), [1, 2, 3, 4, 5].map(number => `id: ${number}\ndata: ${number}\n\n`).join(''));
    // One that is left in the middle.
    const leaving = new AbortController();
    const endless = await fetch(`${url}/stream/1000000`, { signal: leaving.signal });
    assert.match(new TextDecoder().decode((await endless.body.getReader().read()).value), /^line 1\n/);
    leaving.abort();

    const all = await Promise.all(range(200).map(async number => (await fetch(`${url}/hello/${number}`)).text()));
    all.forEach((body, number) => assert.equal(body, `hello, ${number}\n`));
}

async function undici() {
    const { Client, Pool } = fromModules('undici');
    const client = new Client(url, { pipelining: 16 });
    let connects = 0;
    client.on('connect', () => { ++connects; });
    const get = async (dispatcher, target) => text((await dispatcher.request({ path: target, method: 'GET' })).body);
    const all = await Promise.all(range(2000).map(number => get(client, `/hello/${number}`)));
    all.forEach((body, number) => assert.equal(body, `hello, ${number}\n`));
    assert.equal(connects, 1);
    // Slow ones and streamed ones among quick ones.
    const targets = ['/slow/20', '/', '/stream/100', '/hello/a', '/slow/1', '/hello/b'];
    const mixed = await Promise.all(targets.map(target => get(client, target)));
    assert.deepEqual([mixed[1], mixed[2], mixed[3], mixed[5]], ['ok', lines(100), 'hello, a\n', 'hello, b\n']);
    await client.close();

    const pool = new Pool(url, { connections: 4, pipelining: 4 });
    const data = randomBytes(100_000);
    const post = async () => Buffer.from(await (await pool.request({ path: '/echo', method: 'POST', body: data })).body.arrayBuffer());
    for (const body of await Promise.all(range(40).map(post))) assert.ok(body.equals(data));
    await pool.close();
}

async function autocannon() {
    const until = amount ? { amount: Number(amount) } : { duration: 3600 };
    const load = fromModules('autocannon')({ url, connections: Number(connections), timeout: 60, ...until });
    process.once('SIGINT', () => load.stop());
    console.log(JSON.stringify(await load));
}

await { agent, fetch: fetchAll, undici, autocannon }[part]();
if (part !== 'autocannon') console.log('all is well');
process.exit(0);
