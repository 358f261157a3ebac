-- KEYS: the generation and the keys of the stream. ARGV: after, before, '1' for backwards, limit,
-- bytes. Returns {generation} if there is no such stream, and otherwise {generation, first, top,
-- floor, why, more, next, offset, at, record, offset, …}. If next is not zero, the script has come
-- to its own limit, and the rest of the page begins there.
local SCAN, CHUNK = 1000, 64
local k = keys(2)
local gen = generation(KEYS[1])
local h = load(k)
if not h then return {gen} end
expire(k, h)
local after, before, back = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local limit, bytes = tonumber(ARGV[7]), tonumber(ARGV[8])
local floor, why = visible(h, h.floor), h.why
if floor == 0 and after > 0 and after < h.first then
  floor, why = h.first - 1, 'expired' -- the position is of a stream that was forgotten
end
local low, high = math.max(after, h.floor) + 1, h.top
if before > 0 then high = math.min(high, before - 1) end

local found, size, more, next = {}, 0, 0, 0
local step, o = 1, low
if back then step, o = -1, high end
local scanned = 0

-- visit takes a record into the page. It reports false if the page has ended.
local function visit(m)
  if m.ttl > 0 and m.at + m.ttl <= now then return true end
  size = size + m.size
  if #found == limit or #found > 0 and size > bytes then
    more = 1
    return false
  end
  found[#found + 1] = {o, m.at}
  return true
end

local function scan()
  while low <= o and o <= high do
    local from, to = o, math.min(o + CHUNK - 1, high)
    if back then from, to = math.max(o - CHUNK + 1, low), o end
    local lines = call('LRANGE', k.measures, from - h.base - 1, to - h.base - 1)
    for i = 1, #lines do
      local line = lines[i]
      if back then line = lines[#lines + 1 - i] end
      if not visit(parse(line)) then return end
      o = o + step
    end
    scanned = scanned + #lines
    if scanned >= SCAN and low <= o and o <= high then
      more, next = 1, o
      return
    end
    if #lines == 0 then return end
  end
end
scan()

local out = {gen, h.first, h.top, floor, why, more, next}
local i = 1
while i <= #found do
  local j = i -- the records from i to j are beside each other in the log
  while j < #found and found[j + 1][1] == found[j][1] + step do j = j + 1 end
  local from, to = found[i][1], found[j][1]
  if back then from, to = to, from end
  local records = call('LRANGE', k.log, from - h.base - 1, to - h.base - 1)
  for n = 1, #records do
    local record = records[n]
    if back then record = records[#records + 1 - n] end
    out[#out + 1] = found[i + n - 1][1]
    out[#out + 1] = found[i + n - 1][2]
    out[#out + 1] = record
  end
  i = j + 1
end
return out
