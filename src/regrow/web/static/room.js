// Any page beside the conversation and the jobs: read again when the state changes; buttons that ask the daemon.

import { Connection, Feed } from './feed.js';
import { dress, refresh } from './live.js';
import { CallFailed, key, post } from './wire.js';
import { say } from './words.js';

const APART_MS = 250;
const STATE_MS = 5000;

const room = document.getElementById('room');
const here = location.pathname + location.search;
let timer = 0;
let reading = false;
let again = false;
let last = 0;

// At once where nothing was read just now; many changes in a row are one reading.
function soon(ms = Math.max(0, last + APART_MS - performance.now())) {
  clearTimeout(timer);
  timer = setTimeout(show, ms);
}

async function show() {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  last = performance.now();
  try {
    if (!document.hidden) await refresh(room.dataset.feed ? here : '/strip');
  } catch (status) {
    if (status === 401) {
      feed.stop();
      connection.signedOut();
      return;
    }
    if (status === 0) feed.lose();
  } finally {
    reading = false;
  }
  if (again) soon();
  else soon(STATE_MS);
  again = false;
}

const connection = new Connection(document.getElementById('connection'), () => feed.connect());
const feed = new Feed('/v1/status/events', 'status', {
  open: () => { connection.open(); soon(); },
  event: () => soon(),
  lost: (ms) => connection.lost(ms),
});

/** Ask for what a button is for; it is told of in the console's chat. */
async function ask(button) {
  const done = await post('/v1/requests', {
    intent: button.dataset.intent, args: JSON.parse(button.dataset.args), service: button.dataset.service ?? '', key: key(),
    language: document.documentElement.dataset.language, notify: { channel: 'web', chat: 'main' },
  });
  if (done.job !== undefined) location.assign(`/jobs/${done.job}`);
  return done.text ?? '';
}

room.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-intent]');
  if (!button || button.disabled) return;
  if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
  const answer = document.getElementById('answer');
  button.disabled = true;
  try {
    const text = await ask(button);
    answer.classList.remove('bad');
    answer.textContent = `✓ ${text || say('pressed')}`;
    soon();
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error;
    answer.classList.add('bad');
    answer.textContent = `✗ ${error.message}`;
    button.disabled = false;
  }
});

dress();
feed.connect();
