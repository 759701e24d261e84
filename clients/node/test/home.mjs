// Homes for tests: each with a daemon of its own, a real process. `make test` sets the variables.
//
//   LOCALMEM_TEST_COMMAND  what runs `localmem`, as a JSON list
//   LOCALMEM_TEST_VECTORS  the folder of the conformance cases

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const named = process.env.LOCALMEM_TEST_COMMAND;
if (named === undefined) throw new Error("LOCALMEM_TEST_COMMAND is not set; run pytest tests/clients");

export const COMMAND = JSON.parse(named);
export const VECTORS = process.env.LOCALMEM_TEST_VECTORS;

export class Home {
  constructor() {
    this.root = mkdtempSync(join(tmpdir(), "localmem-"));
    const inherited = Object.entries(process.env).filter(([name]) => !name.includes("LOCALMEM"));
    this.environment = {
      ...Object.fromEntries(inherited),
      LOCALMEM_HOME: join(this.root, "home"),
      LOCALMEM_PASSPHRASE: "correct horse",
      LOCALMEM_SIZE: "2 MiB",
    };
    this.options = { environment: this.environment, command: COMMAND };
  }

  get folder() {
    return join(this.root, "home", "run");
  }

  get statePath() {
    return join(this.folder, "daemon.json");
  }

  state() {
    try {
      return JSON.parse(readFileSync(this.statePath, "utf8"));
    } catch {
      return null;
    }
  }

  signal(name) {
    process.kill(this.state().pid, name);
  }

  async kill() {
    const { pid } = this.state();
    process.kill(pid, "SIGKILL");
    await gone(pid);
  }

  async stop() {
    const { pid } = this.state();
    await exchange(this.state(), { method: "POST", path: "/v1/stop" });
    await gone(pid);
  }

  async spoil() {
    await this.stop();
    writeFileSync(join(this.root, "home", "data", "memory.localmem"), Buffer.alloc(256 * 1024));
  }

  replaceToken() {
    const state = this.state();
    const other = { ...state, token: "0".repeat(state.token.length) };
    writeFileSync(this.statePath, JSON.stringify(other), { mode: 0o600 });
  }

  // Whatever happened in a test: nothing outlives it.
  async remove() {
    const state = this.state();
    if (state !== null && isAlive(state.pid)) {
      process.kill(state.pid, "SIGKILL");
      await gone(state.pid);
    }
    rmSync(this.root, { recursive: true, force: true });
  }
}

// One request as it is written down; `connection: close`, so that the end of the answer is known.
export function exchange(state, { method, path, headers = {}, data = Buffer.alloc(0), over, chunked }) {
  const own = {
    Host: "localhost",
    Authorization: `Bearer ${state.token}`,
    "Content-Type": "application/json",
    "Content-Length": String(data.length),
    Connection: "close",
  };
  if (chunked) {
    delete own["Content-Length"];
    own["Transfer-Encoding"] = "chunked";
  }
  for (const [name, value] of Object.entries(headers)) {
    if (value === null) delete own[name];
    else own[name] = value;
  }
  const place =
    over === "loopback" ? { host: "127.0.0.1", port: state.port } : { socketPath: state.socket };
  return new Promise((settle, refuse) => {
    const asked = request({ ...place, method, path, headers: own, agent: false, setHost: false }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("end", () => {
        settle({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces) });
        asked.destroy();
      });
    });
    asked.on("error", refuse);
    if (data.length > 0) asked.write(data);
    if (own["Content-Length"] === String(data.length) || chunked) asked.end();
    else asked.flushHeaders(); // more is promised than will come
  });
}

// Its first thread may have ended while others still hold the sockets.
export function isAlive(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const begun = stat.lastIndexOf(")") + 2;
    return stat[begun] !== "Z" || readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

async function gone(pid) {
  while (isAlive(pid)) await pause(5);
}
