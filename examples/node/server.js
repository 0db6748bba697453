// The process: its listening sockets are handed over by LISTEN_FDS, or it binds one itself.
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { createApp } from "./app.js";
import { Links } from "./links.js";

const DRAIN_MS = 5000;

function version() {
  try {
    return readFileSync(new URL("VERSION", import.meta.url), "utf8").trim(); // written by the build
  } catch {
    return "dev";
  }
}

// "http", which two releases share at a switch, and "probe", at which a new one is asked before anybody else meets it.
function handedOver() {
  if (process.env.LISTEN_PID !== String(process.pid)) return [];
  const names = (process.env.LISTEN_FDNAMES ?? "").split(":").slice(0, Number(process.env.LISTEN_FDS));
  return names.map((name, number) => ({ name, fd: 3 + number })).filter(({ name }) => ["http", "probe"].includes(name));
}

const links = new Links(join(process.env.REGROW_STATE ?? ".", "links.jsonl"));
const sockets = handedOver();
const servers = (sockets.length ? sockets : [{ port: process.env.PORT ?? 8732, host: "127.0.0.1" }]).map((where) => {
  const server = createApp(links, version());
  server.listen(where, () => console.log(`shortener ${version()} listens`));
  return server;
});

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    // What was accepted is answered; new connections wait in the shared queue for the next release.
    for (const server of servers) {
      server.close();
      server.closeIdleConnections();
    }
    setTimeout(() => process.exit(0), DRAIN_MS).unref();
  });
}
