// Writes the public declarations into one file for import, and into an identical one for require.
// Each has the name of the code that it describes, so that every compiler finds it.
import { readFileSync, rmSync, writeFileSync } from "node:fs";

const read = (name) => readFileSync(new URL(`build/${name}.d.ts`, import.meta.url), "utf8");

const declared = ["errors", "api", "connect"].map(read).join("")
  .replace(/^import [^;]*;\n/gm, "") // they are in the same file
  .replace(/^export \{\};\n/gm, "");
const [about] = read("index").match(/^\/\*\*.*?\*\/\n/s);
const exported = [...read("index").matchAll(/\{([^}]*)\}/g)].flatMap(([, names]) => names.split(","))
  .map((name) => name.trim()).filter(Boolean);
for (const name of exported) {
  if (!new RegExp(`^export declare (?:class|function) ${name}\\b|^export (?:interface|type) ${name}\\b`, "m")
    .test(declared)) throw new Error(`no declaration of ${name}`);
}
for (const ending of ["d.ts", "d.cts"]) {
  writeFileSync(new URL(`dist/realtime.${ending}`, import.meta.url), `${about}${declared}export {};\n`);
}
rmSync(new URL("build", import.meta.url), { recursive: true });
