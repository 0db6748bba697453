// The tiny service for node: the same release file, the same faults.
const fs = require("fs");
const http = require("http");

const release = Object.fromEntries(
  fs.readFileSync("release", "utf8").trim().split("\n").map((line) => line.split(/=(.*)/).slice(0, 2)),
);
if ("TINY_DIE_AT_START" in release) throw new Error("no such table: users");
const server = http.createServer((_, response) => {
  const body = JSON.stringify({ version: release.TINY_VERSION, pid: process.pid });
  response.writeHead(200, { "Content-Length": Buffer.byteLength(body), Connection: "close" });
  response.end(body);
});
setTimeout(() => {
  server.listen(Number(release.TINY_PORT), "127.0.0.1", () => {
    if (process.send) process.send("ready");
    if ("TINY_DIE_AFTER" in release) {
      setTimeout(() => { throw new Error("told to die"); }, 1000 * Number(release.TINY_DIE_AFTER));
    }
  });
}, 1000 * Number(release.TINY_INIT));
process.on("SIGINT", () => server.close(() => process.exit(0)));
