-- What all scripts share. ARGV[1] is '1' if the engine loses nothing that it has acknowledged,
-- ARGV[2] a generation for buckets that begin a new one, ARGV[3] how long a stream is remembered
-- after its last publication, in microseconds like all times here.
--
-- A stream is a head (string), a log of records (list), the measures of these records (list: time,
-- sum of sizes, size, time to live, sender), ids with their order (hash and list), cursors (hash),
-- and how much of a shared stream each sender uses (hash). Offsets are dense: the elements of an
-- offset in the lists are found by its distance from the base, after which records are stored.
-- Those up to the floor are discarded; they are removed some at a time. Heads and measures are packed,
-- which takes Lua a tenth of the time that text does.
--
-- The log is no stream of Redis, because that takes 4 KiB even for one small record.
local call = redis.call
local durable = ARGV[1] == '1'
local forget = tonumber(ARGV[3])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local HOUR, SECOND, SWEEP = 3600000000, 1000000, 256
-- Discarded records are removed when there are so many, or a quarter of what is kept, or about so many
-- bytes.
local FEW, FEWBYTES = 32, 65536

local function text(n) return string.format('%.0f', n) end

-- A server has another replication id after each restart and each promotion.
local server
local function generation(key)
  local g = call('HMGET', key, 'gen', 'server', 'high')
  if not durable and not server then
    server = string.match(call('INFO', 'replication'), 'master_replid:(%w+)') or 'unknown'
  end
  if not g[1] or not durable and g[2] ~= server then
    g[1] = ARGV[2]
    call('HSET', key, 'gen', g[1], 'server', server or '')
  end
  return g[1], tonumber(g[3]) or 0
end

-- keys returns the keys of a stream, which begin at KEYS[i].
local function keys(i)
  return {
    head = KEYS[i], log = KEYS[i + 1], measures = KEYS[i + 2], ids = KEYS[i + 3],
    order = KEYS[i + 4], cursors = KEYS[i + 5], usage = KEYS[i + 6],
  }
end

local HEAD, MEASURE = '<dddddddddddds', '<dddd'

-- head returns the head of a stream in a key, or nil.
local function head(key)
  local v = call('GET', key)
  if not v then return nil end
  local h = {}
  h.first, h.top, h.floor, h.base, h.at, h.sum, h.floorsum, h.age, h['until'], h.lead, h.leadsum,
    h.due, h.why = struct.unpack(HEAD, v)
  return h
end

local function load(k) return head(k.head) end

local function save(k, h)
  call('SET', k.head, struct.pack(HEAD, h.first, h.top, h.floor, h.base, h.at, h.sum, h.floorsum,
    h.age, h['until'], h.lead, h.leadsum, h.due, h.why), 'KEEPTTL')
end

local function parse(line)
  local m = {}
  m.at, m.sum, m.size, m.ttl = struct.unpack(MEASURE, line)
  m.sender = string.sub(line, 33)
  return m
end

local function measure(k, h, offset)
  return parse(call('LINDEX', k.measures, offset - h.base - 1))
end

local function sumat(k, h, offset)
  if offset == h.top then return h.sum end
  if offset == h.floor then return h.floorsum end
  return measure(k, h, offset).sum
end

-- search returns the first offset after from for which good is true; it is true for to.
local function search(from, to, good)
  local step = 1
  while from + step < to do
    if good(from + step) then
      to = from + step
      break
    end
    from = from + step
    step = step * 2
  end
  while to - from > 1 do
    local middle = from + math.floor((to - from) / 2)
    if good(middle) then to = middle else from = middle end
  end
  return to
end

local function discard(k, h, offset, why)
  if offset > h.floor then
    h.floorsum = sumat(k, h, offset)
    h.floor, h.why = offset, why
  end
end

-- expire discards what is too old. Before due, nothing is.
local function expire(k, h)
  if h.age <= 0 or h.floor == h.top or now < h.due then return end
  local function good(o) return o >= h.top or measure(k, h, o + 1).at + h.age > now end
  if not good(h.floor) then discard(k, h, search(h.floor, h.top, good), 'expired') end
  h.due = 0
  if h.floor < h.top then h.due = measure(k, h, h.floor + 1).at + h.age end
end

-- bound discards what is too much.
local function bound(k, h, messages, bytes)
  if h.top - h.floor > messages then discard(k, h, h.top - messages, 'overflow') end
  local function good(o) return h.sum - sumat(k, h, o) <= bytes end
  if bytes > 0 and not good(h.floor) then
    discard(k, h, search(h.floor, h.top, good), 'overflow')
  end
end

-- pass takes what need not be counted any more out of the usage of its senders: what is discarded,
-- and then what has expired, up to the first that has not.
local function pass(k, h)
  if h.lead == 0 then return end
  local i = h.lead - h.base
  for _, line in ipairs(call('LRANGE', k.measures, i, i + SWEEP - 1)) do
    local m = parse(line)
    local gone = m.ttl > 0 and m.at + m.ttl <= now or h.age > 0 and m.at + h.age <= now
    if h.lead >= h.floor and not gone then return end
    h.lead, h.leadsum = h.lead + 1, m.sum
    call('HINCRBY', k.usage, 'b' .. m.sender, -m.size)
    if call('HINCRBY', k.usage, 'n' .. m.sender, -1) <= 0 then
      call('HDEL', k.usage, 'b' .. m.sender, 'n' .. m.sender)
    end
  end
end

-- sweep removes some of what is discarded.
local function sweep(k, h)
  pass(k, h)
  if h.floor == h.top then
    if h.base < h.top then call('UNLINK', k.log, k.measures, k.usage) end
    h.base = h.top
    if h.lead > 0 then h.lead, h.leadsum = h.top, h.sum end
    return
  end
  local to = h.floor
  if h.lead > 0 then to = math.min(to, h.lead) end
  local n = math.min(to - h.base, SWEEP)
  local kept = h.top - h.floor
  if n > 0 and (n >= math.min(FEW, kept / 4) or n * (h.sum - h.floorsum) > FEWBYTES * kept) then
    call('LTRIM', k.measures, n, -1)
    call('LTRIM', k.log, n, -1)
    h.base = h.base + n
  end
end

local function eachkey(k, f)
  for _, key in pairs(k) do f(key) end
end

local function expireat(key, at) call('PEXPIREAT', key, text(at / 1000)) end

-- remember sets the time for which a stream is remembered.
local function remember(k, h)
  if h.age <= 0 and h.top > h.floor then
    if h['until'] > 0 then eachkey(k, function(key) call('PERSIST', key) end) end
    h['until'] = 0
    return
  end
  local need = math.max(h.age + HOUR, forget)
  if now + need > h['until'] then
    h['until'] = math.floor(now + need + need / 8)
    eachkey(k, function(key) expireat(key, h['until']) end)
  end
end

-- born is called for a key that may be new.
local function born(h, key)
  if h['until'] > 0 then expireat(key, h['until']) end
end

-- visible returns the offset as it is told: zero if nothing is before it.
local function visible(h, offset)
  if offset < h.first then return 0 end
  return offset
end

-- know sets the cursor of a reader. Beyond 100 readers it forgets the lowest one.
local function know(k, h, reader, at)
  call('HSET', k.cursors, reader, text(at))
  local n = call('HLEN', k.cursors)
  if n == 1 then born(h, k.cursors) end
  if n <= 100 then return end
  local lowest, which = at, reader
  local all = call('HGETALL', k.cursors)
  for i = 1, #all, 2 do
    local offset = tonumber(all[i + 1])
    if offset < lowest then lowest, which = offset, all[i] end
  end
  call('HDEL', k.cursors, which)
end
