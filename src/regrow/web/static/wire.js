// Calls of the API. Every one has a deadline and ends in an answer or in a sentence a person can read.

import { say } from './words.js';

const DEADLINE_MS = 15000;

export class CallFailed extends Error {
  constructor(text, status = 0) {
    super(text);
    this.status = status;
  }
}

/** GET `path` as JSON. */
export function read(path) {
  return call(path, {});
}

/** POST `body` (nothing when undefined) to `path`. X-Regrow tells the daemon that this page did it, not another. */
export function post(path, body) {
  const headers = { 'X-Regrow': '1' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  return call(path, { method: 'POST', headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, cache: 'no-store', signal: AbortSignal.timeout(DEADLINE_MS) });
  } catch {
    throw new CallFailed(say('no_answer'));
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  if (response.status === 401) throw new CallFailed(say('signed_out'), 401);
  throw new CallFailed(answer?.error ?? `${say('no_answer')} (${response.status})`, response.status);
}

/** A key that makes a repeated call one message. */
export function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
