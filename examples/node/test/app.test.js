import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { createApp } from "../app.js";
import { Links } from "../links.js";

const path = join(mkdtempSync(join(tmpdir(), "links-")), "links.jsonl");
const server = createApp(new Links(path), "1");
let base;

before(() => new Promise((resolve) => {
  server.listen(0, "127.0.0.1", () => {
    base = `http://127.0.0.1:${server.address().port}`;
    resolve();
  });
}));
after(() => server.close());

const put = (name, body) => fetch(`${base}/${name}`, { method: "PUT", body });
const get = (name) => fetch(`${base}/${name}`, { redirect: "manual" });

test("a name leads where it was told to, and the newest word counts", async () => {
  await put("docs", "https://example.org/old");
  await put("docs", "https://example.org/new");
  const answer = await get("docs");
  assert.equal(answer.status, 302);
  assert.equal(answer.headers.get("location"), "https://example.org/new");
});

test("links outlive the process that made them", () => {
  assert.deepEqual(new Links(path).all(), { docs: "https://example.org/new" });
});

test("what is no address is refused", async () => {
  assert.equal((await put("bad", "javascript:alert(1)")).status, 400);
  assert.equal((await get("bad")).status, 404);
});

test("health names the version", async () => {
  assert.deepEqual(await (await get("health")).json(), { status: "ok", version: "1" });
});
