-- KEYS: the generation and the keys of the stream. ARGV: the reader, the generation and the offset
-- of the position. Returns {status, generation}.
local DONE, NOSTREAM, INVALID = 0, 1, 2
local k = keys(2)
local gen = generation(KEYS[1])
local h = load(k)
if not h then return {NOSTREAM, gen} end
local reader, offset = ARGV[4], tonumber(ARGV[6])
if ARGV[5] ~= gen or offset > h.top then return {INVALID, gen} end
if offset <= (tonumber(call('HGET', k.cursors, reader)) or 0) then return {DONE, gen} end
know(k, h, reader, offset)
local lowest = offset
for _, at in ipairs(call('HVALS', k.cursors)) do lowest = math.min(lowest, tonumber(at)) end
if lowest > h.floor then
  discard(k, h, lowest, 'taken')
  sweep(k, h)
  remember(k, h)
  save(k, h)
end
return {DONE, gen}
