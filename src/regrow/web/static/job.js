// The job page: its parts are fetched anew when the job changes; its buttons call the API.

import { Connection, Feed } from './feed.js';
import { dress, refresh } from './live.js';
import { CallFailed, post } from './wire.js';
import { say } from './words.js';

const AT_MOST_EVERY_MS = 400;
const GOING_MS = 3000;
const ENDED_MS = 10000;
const ENDED = new Set(['done', 'failed', 'undone', 'cancelled']);

const main = document.getElementById('job');
const answer = document.getElementById('answer');
const announcer = document.getElementById('announcer');
const connection = new Connection(document.getElementById('connection'), () => feed.connect());
let timer = 0;
let pending = false;
let last = document.getElementById('head').dataset.status;

const feed = new Feed(`/v1/jobs/${main.dataset.job}/events`, 'job', {
  open: () => connection.open(),
  event: (job) => {
    if (ENDED.has(job.status)) feed.stop();
    if (!pending) soon();
    pending = true; // many changes in a row are one reading
  },
  lost: (ms) => connection.lost(ms),
});

let reading = false;

let shown = 0;

// At once where nothing was read just now.
function soon(ms = Math.max(0, shown + AT_MOST_EVERY_MS - performance.now())) {
  clearTimeout(timer);
  timer = setTimeout(show, ms);
}

// Read again now and then too: the log grows without the job changing, and a silent feed may be a dead one.
async function show() {
  if (reading) {
    soon();
    return;
  }
  reading = true;
  shown = performance.now();
  pending = false;
  try {
    if (!document.hidden) await refresh(ended() ? '/strip' : location.pathname);
    const { status } = document.getElementById('head').dataset;
    if (status !== last) announcer.textContent = say(`status_${status}`);
    last = status;
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
  soon(ended() ? ENDED_MS : GOING_MS);
}

function ended() {
  return document.getElementById('head').dataset.ended === 'true';
}

main.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-verb]');
  if (!button || button.disabled) return;
  const { verb, digest } = button.dataset;
  const row = [...button.closest('.buttons').querySelectorAll('button')];
  for (const each of row) each.disabled = true;
  try {
    await post(`/v1/jobs/${main.dataset.job}/${verb}`, digest === undefined ? undefined : { digest });
    answer.classList.remove('bad');
    answer.textContent = `✓ ${say('pressed')}`;
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error;
    answer.classList.add('bad');
    answer.textContent = `✗ ${error.message}`;
    for (const each of row) each.disabled = false;
  }
  soon();
});

dress();
const log = document.querySelector('pre.log');
if (log) log.scrollTop = log.scrollHeight;
if (!ended()) feed.connect();
soon(GOING_MS);
