// Fails if the built client is too large for a page.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT = 11_264; // bytes, compressed with gzip

const built = readFileSync(new URL("dist/realtime.js", import.meta.url));
const zipped = gzipSync(built, { level: 9 }).length;
console.log(`dist/realtime.js: ${built.length} bytes, ${zipped} with gzip, limit ${LIMIT}`);
process.exitCode = zipped > LIMIT ? 1 : 0;
