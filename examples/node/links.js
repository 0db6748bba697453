// Short names for long addresses, in a file to which lines are only added: two releases may write it at a switch.
import { appendFileSync, existsSync, readFileSync } from "node:fs";

export class Links {
  #path;

  constructor(path) {
    this.#path = path;
  }

  // All links by name; the newest line of a name counts. It is read each time: the other release may have written.
  all() {
    if (!existsSync(this.#path)) return {};
    const lines = readFileSync(this.#path, "utf8").split("\n").filter(Boolean);
    return Object.fromEntries(lines.map((line) => JSON.parse(line)));
  }

  // One line in one write, which the kernel puts at the end whole.
  set(name, address) {
    appendFileSync(this.#path, JSON.stringify([name, address]) + "\n", { mode: 0o600 });
  }
}
