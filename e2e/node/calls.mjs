// Calls of the official Node SDKs. The program prints one line of JSON for each:
// what a program that made it sees. node_test.go runs it against a scripted
// provider, directly and through TokenHub, and compares.
//
//	node calls.mjs BASE_URL KEY FILE
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI, { toFile } from 'openai';

const [base, key, file] = process.argv.slice(2);

const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');

// clients that mark their requests with the name of the call.
const openai = (name, options = {}) =>
  new OpenAI({ baseURL: base + '/v1', apiKey: key, maxRetries: 0, defaultHeaders: { 'X-Name': name }, ...options });
const anthropic = (name, options = {}) =>
  new Anthropic({ baseURL: base, apiKey: key, maxRetries: 0, defaultHeaders: { 'X-Name': name }, ...options });

const messages = [{ role: 'user', content: 'Say <hi> & \u2028 ü 😀' }];
const chat = { model: 'gpt-test', max_tokens: 64, messages };
const message = { model: 'claude-test', max_tokens: 64, messages };

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const calls = {
  'chat': (name) => openai(name).chat.completions.create(chat),
  'chat with its answer': async (name) => {
    const { data, response, request_id } = await openai(name).chat.completions.create(chat).withResponse();
    return { data, status: response.status, type: response.headers.get('content-type'), request_id };
  },
  'stream': async (name) =>
    collect(await openai(name).chat.completions.create({ ...chat, stream: true, stream_options: { include_usage: true } })),
  'stream helper': async (name) =>
    openai(name).chat.completions.stream({ ...chat, stream_options: { include_usage: true } }).finalChatCompletion(),
  'responses': (name) => openai(name).responses.create({ model: 'gpt-test', input: 'hi', max_output_tokens: 64 }),
  'responses stream': async (name) =>
    collect(await openai(name).responses.create({ model: 'gpt-test', input: 'hi', max_output_tokens: 64, stream: true })),
  'embeddings': (name) => openai(name).embeddings.create({ model: 'text-embedding-test', input: ['a', 'b'] }),
  'upload to be read': (name) =>
    openai(name).audio.transcriptions.create({ file: createReadStream(file), model: 'whisper-test', temperature: 0.5 }),
  'upload to be stored': async (name) =>
    openai(name).files.create({ file: await toFile(Buffer.alloc(3_000_000, 'ü'), 'sü"ß.jsonl'), purpose: 'batch' }),
  'upload of a long file': (name) => openai(name).files.create({ file: createReadStream(file), purpose: 'user_data' }),
  'download': async (name) => {
    const response = await openai(name).files.content('file-1');
    return { hash: hash(Buffer.from(await response.arrayBuffer())), headers: response.headers.get('content-disposition') };
  },
  'list with pages': async (name) => collect(openai(name).files.list({ limit: 2, order: 'desc' })),
  'delete': (name) => openai(name).files.delete('file-1'),
  'cancel': (name) => openai(name).batches.cancel('batch-1'),
  'stored response': (name) => openai(name).responses.retrieve('resp_1', { include: ['message.output_text.logprobs', 'file_search_call.results'] }),
  'retry of a 500': (name) => openai(name, { maxRetries: 2 }).chat.completions.create(chat),
  'retry after some milliseconds': (name) => openai(name, { maxRetries: 2 }).chat.completions.create(chat),
  'no retry': (name) => openai(name, { maxRetries: 2 }).chat.completions.create(chat),
  'bad request': (name) => openai(name).chat.completions.create(chat),
  'timeout': (name) => openai(name, { timeout: 500 }).chat.completions.create(chat),
  'broken stream': async (name) => collect(await openai(name).chat.completions.create({ ...chat, stream: true, stream_options: { include_usage: true } })),
  'abort': async (name) => {
    const stream = await openai(name).chat.completions.create({ ...chat, stream: true, stream_options: { include_usage: true } });
    const events = [];
    for await (const event of stream) {
      events.push(event);
      stream.controller.abort();
    }
    return events;
  },
  'abort before the answer': async (name) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 300);
    return openai(name).chat.completions.create(chat, { signal: stop.signal });
  },
  'message': (name) => anthropic(name).messages.create(message),
  'message stream': async (name) => collect(await anthropic(name).messages.create({ ...message, stream: true })),
  'message stream helper': (name) => anthropic(name).messages.stream(message).finalMessage(),
  'count of tokens': (name) => anthropic(name).messages.countTokens({ model: 'claude-test', messages }),
  'overloaded message': (name) => anthropic(name, { maxRetries: 1 }).messages.create(message),
  'abort of a message': async (name) => {
    const stream = anthropic(name).messages.stream(message);
    stream.on('text', () => stream.abort());
    return stream.finalMessage();
  },
};

for (const [name, call] of Object.entries(calls)) {
  let seen;
  try {
    seen = await call(name.replaceAll(' ', '-'));
  } catch (e) {
    seen = { error: e.constructor.name, status: e.status, message: e.message, code: e.code, type: e.type, request: e.requestID, body: e.error };
  }
  console.log(JSON.stringify({ name, seen }));
}
