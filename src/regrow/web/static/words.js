// The page's words, and times and durations in its language.

const table = JSON.parse(document.querySelector('meta[name="words"]').content);
export const language = document.documentElement.lang;

/** One text with its {fields} filled in. */
export function say(key, fields = {}) {
  return table[key].replace(/\{(\w+)\}/g, (whole, name) => (name in fields ? String(fields[name]) : whole));
}

/** A duration in seconds: its two largest units, nothing below a second. */
export function duration(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const counts = [['days', 86400], ['hours', 3600], ['minutes', 60], ['seconds', 1]].map(([key, unit]) => {
    const count = Math.floor(left / unit);
    left -= count * unit;
    return [key, count];
  });
  let first = counts.findIndex(([, count]) => count > 0);
  if (first < 0) first = counts.length - 1;
  return counts.slice(first, first + 2).filter(([, count], at) => at === 0 || count > 0)
    .map(([key, count]) => say(key, { n: count })).join(' ');
}

const hour = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat(language, { month: 'short', day: 'numeric' });
const whole = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });

/** Shows a <time> element in this browser's own time: the hour today, the day too before. */
export function showTime(element) {
  const at = new Date(element.dateTime);
  const today = at.toDateString() === new Date().toDateString();
  element.textContent = today ? hour.format(at) : `${day.format(at)} ${hour.format(at)}`;
  element.title = whole.format(at);
}
