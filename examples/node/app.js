// What the service answers:
//   GET  /health      {"status": "ok", "version": "..."}
//   GET  /NAME        to where the name leads
//   PUT  /NAME        the body is the address that it leads to from now on
import { createServer } from "node:http";

const LONGEST = 2000;

function answer(response, status, value, headers = {}) {
  const body = JSON.stringify(value);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body), ...headers });
  response.end(body);
}

async function read(request) {
  let text = "";
  for await (const part of request) {
    text += part;
    if (text.length > LONGEST) return null;
  }
  return text.trim();
}

function isAddress(text) {
  try {
    return ["http:", "https:"].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}

export function createApp(links, version) {
  return createServer(async (request, response) => {
    const name = new URL(request.url, "http://localhost").pathname.slice(1);
    if (request.method === "GET" && request.url === "/health") {
      return answer(response, 200, { status: "ok", version });
    }
    if (!/^[a-z0-9-]{1,40}$/.test(name)) return answer(response, 400, { error: "a name has letters, digits and dashes" });
    if (request.method === "PUT") {
      const address = await read(request);
      if (address === null || !isAddress(address)) return answer(response, 400, { error: "the body is no http address" });
      links.set(name, address);
      return answer(response, 200, { name, address });
    }
    const address = links.all()[name];
    if (address === undefined) return answer(response, 404, { error: "no such name" });
    return answer(response, 302, { name, address }, { Location: address });
  });
}
