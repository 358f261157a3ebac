-- KEYS: the generation and the keys of the stream. ARGV: the reader, '1' if it was known before the
-- first publication. Returns {generation} if there is no such stream, or {generation, offset}.
local k = keys(2)
local gen = generation(KEYS[1])
local h = load(k)
if not h then return {gen} end
local reader = ARGV[4]
local at = call('HGET', k.cursors, reader)
if at then return {gen, tonumber(at)} end
at = 0
if reader ~= '' and ARGV[5] ~= '1' then at = visible(h, h.floor) end
know(k, h, reader, at)
return {gen, at}
