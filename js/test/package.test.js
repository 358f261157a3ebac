// The published package in the tools of its users.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const home = fileURLToPath(new URL("..", import.meta.url));
const modules = join(home, "node_modules");
const place = mkdtempSync(join(tmpdir(), "realtime-package-"));
after(() => rmSync(place, { recursive: true }));

function run(command, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error ?? ""}${stdout}${stderr}`);
  return stdout;
}

const packed = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", place], home));
const installed = join(place, "node_modules", "@realtime-go", "client");
mkdirSync(installed, { recursive: true });
run("tar", ["xzf", join(place, packed[0].filename), "-C", installed, "--strip-components", "1"]);

/** Creates a program in its own folder. */
function project(name, type, files) {
  const folder = join(place, name);
  mkdirSync(folder);
  for (const [file, text] of Object.entries({ "package.json": JSON.stringify({ type }), ...files })) {
    writeFileSync(join(folder, file), text);
  }
  return folder;
}

test("the script has no look behind, because Safari before 16.4 refuses a script with one", () => {
  for (const file of ["realtime.js", "realtime.cjs"]) {
    assert.doesNotMatch(readFileSync(join(installed, "dist", file), "utf8"), /\(\?<[!=]/);
  }
});

test("the package contains only the files that are used", () => {
  assert.deepEqual(readdirSync(installed).sort(), ["LICENSE", "README.md", "dist", "package.json"]);
  assert.deepEqual(readdirSync(join(installed, "dist")).sort(),
    ["realtime.cjs", "realtime.d.cts", "realtime.d.ts", "realtime.js"]);
});

const typed = `
import { connect, RealtimeError, type Client, type Notices, type Room } from "@realtime-go/client";

type Events = { chat: { text: string } };
const client: Client<Events> = connect<Events>("/ws");
const room: Room<Events> = client.join("lobby", { presence: true });
room.on("chat", ({ text }, { sender }) => console.log(text.length, sender));
room.send("chat", { text: "x" }).catch((error: RealtimeError) => console.log(error.code));
client.on("userjoined", ({ user_id }) => user_id.length);
client.on("userleft", ({ message }: Notices["userleft"]) => message.length);
room.onPresence(({ members }) => members.map(({ user, state }) => [user, state.x]));
// @ts-expect-error: no such message
room.on("chats", () => {});
`;

const es = ["--target", "es2022"];
for (const [compiler, type, ...options] of [
  ["typescript", "module", ...es, "--module", "nodenext", "--moduleResolution", "nodenext"],
  ["typescript", "commonjs", ...es, "--module", "nodenext", "--moduleResolution", "nodenext"],
  ["typescript", "module", ...es, "--module", "esnext", "--moduleResolution", "bundler"],
  ["typescript-5", "module", ...es, "--module", "node16", "--moduleResolution", "node16"],
  ["typescript-5", "commonjs", ...es, "--module", "node16", "--moduleResolution", "node16"],
  ["typescript-5", "module", ...es, "--module", "esnext", "--moduleResolution", "node10"],
  ["typescript-5", "commonjs", "--module", "commonjs"],
]) {
  const name = [compiler, type, ...options].join(" ").replaceAll("--", "");
  test(`TypeScript: ${name}`, () => {
    const folder = project(name.replaceAll(" ", "-"), type, { "a.ts": typed });
    const strict = ["--noEmit", "--strict"];
    run(process.execPath, [join(modules, compiler, "bin", "tsc"), ...strict, ...options, "a.ts"], folder);
  });
}

const check = 'if (typeof connect !== "function" || !(new RealtimeError("x") instanceof Error)) throw connect;';

for (const [type, file, text] of [
  ["commonjs", "a.js", 'const { connect, RealtimeError } = require("@realtime-go/client");'],
  ["module", "a.js", 'import { connect, RealtimeError } from "@realtime-go/client";'],
  ["commonjs", "a.mjs", 'import { connect, RealtimeError } from "@realtime-go/client";'],
  ["module", "a.cjs", 'const { connect, RealtimeError } = require("@realtime-go/client");'],
  ["commonjs", "a.js", 'import("@realtime-go/client").then(({ connect, RealtimeError }) => {'],
]) {
  test(`Node: ${file} of a package that is ${type}: ${text}`, () => {
    const folder = mkdtempSync(join(place, "node-"));
    writeFileSync(join(folder, "package.json"), JSON.stringify({ type }));
    writeFileSync(join(folder, file), `${text}${check}${text.endsWith("{") ? "});" : ""}`);
    run(process.execPath, [file], folder);
  });
}

test("Jest", () => {
  const folder = project("jest", "commonjs", {
    "a.test.js": `
      const { connect, RealtimeError } = require("@realtime-go/client");
      test("the client is exported", () => { ${check} });
    `,
  });
  run(process.execPath, [join(modules, "jest", "bin", "jest.js"), "--rootDir", folder, "--runInBand"], folder);
});
