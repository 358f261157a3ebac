// The examples in the documents.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

for (const [page, expected] of [["README.md", 2], ["js/README.md", 9], ["docs/RECIPES.md", 0]]) {
  test(`examples in ${page} handle each promise of the client`, () => {
    const text = readFileSync(new URL(`../../${page}`, import.meta.url), "utf8");
    const blocks = [...text.matchAll(/```\w+\n(.*?)```/gs)].map(([, code]) => code);
    const lines = blocks.join("").split("\n")
      .filter((line) => /[a-z)]\.(send|call|history|ping)\(/.test(line))
      .filter((line) => !/ephemeral: true|latest: /.test(line)); // these return no promise
    assert.ok(lines.length >= expected, `${lines.length} lines`);
    for (const line of lines) assert.match(line, /\bawait\b|\.catch\(/);
  });
}
