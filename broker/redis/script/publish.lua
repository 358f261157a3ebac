-- KEYS: for each part the generation and the keys of its stream. ARGV: for each part the fields
-- that part reads below, and then its new readers. Returns for each part
-- {status, generation, offset, prev, at}.
local TAKEN, DUPLICATE, FULL = 0, 1, 2
local IDTIME, IDS = 120000000, 1000

-- begin returns the head of a new stream. Its offsets are above all older ones of its name: these
-- were at most the time of their publication, which is at most high and a second. If the clock has
-- been set back, high is the clock.
local function begin(k, genkey, high)
  local first = now
  if first <= high then
    first = high + 1
    if now < high - SECOND then first = first + SECOND end
  end
  call('HSET', genkey, 'high', text(first))
  call('UNLINK', k.log, k.measures, k.ids, k.order, k.cursors, k.usage)
  return {
    first = first, top = first - 1, floor = first - 1, why = '', base = first - 1, at = 0, sum = 0,
    floorsum = 0, age = 0, ['until'] = 0, lead = 0, leadsum = 0, due = 0,
  }, first
end

local function use(k, h, sender, size)
  call('HINCRBY', k.usage, 'b' .. sender, size)
  if call('HINCRBY', k.usage, 'n' .. sender, 1) == 1 then born(h, k.usage) end
end

-- count begins to count the usage of senders. That of an inbox is counted from its beginning.
local function count(k, h)
  if h.lead > 0 then return end
  h.lead, h.leadsum = h.floor, h.floorsum
  for _, line in ipairs(call('LRANGE', k.measures, h.floor - h.base, -1)) do
    local m = parse(line)
    use(k, h, m.sender, m.size)
  end
end

local function hasshare(k, h, p)
  pass(k, h)
  local messages, bytes = h.top - h.lead, h.sum - h.leadsum
  if messages == 0 then return true end
  local own = call('HMGET', k.usage, 'n' .. p.sender, 'b' .. p.sender)
  return (tonumber(own[1]) or 0) + 1 <= p.messages - messages
    and (p.bytes <= 0 or (tonumber(own[2]) or 0) + p.size <= p.bytes - bytes)
end

local function append(k, h, p)
  h.at = math.max(now, h.at)
  h.top, h.sum = h.top + 1, h.sum + p.size
  if h.lead > 0 then use(k, h, p.sender, p.size) end
  local line = struct.pack(MEASURE, h.at, h.sum, p.size, p.ttl) .. p.sender
  call('RPUSH', k.log, p.payload)
  if call('RPUSH', k.measures, line) == 1 then
    born(h, k.log)
    born(h, k.measures)
  end
end

local function useid(k, h, id)
  call('HSET', k.ids, id, text(h.top) .. ':' .. text(h.at))
  local n = call('RPUSH', k.order, id)
  if n == 1 then
    born(h, k.ids)
    born(h, k.order)
  end
  for _ = 1, 8 do
    local oldest = call('LINDEX', k.order, 0)
    local offset, at = string.match(call('HGET', k.ids, oldest), '^(%d+):(%d+)$')
    if now - at < IDTIME or n <= IDS and tonumber(offset) > h.floor then return end
    call('LPOP', k.order)
    call('HDEL', k.ids, oldest)
    n = n - 1
  end
end

local function part(genkey, k, p)
  local gen, high = generation(genkey)
  local h = load(k)
  if h and p.id ~= '' then
    local first = call('HGET', k.ids, p.id)
    if first then return {DUPLICATE, gen, tonumber(string.match(first, '^%d+')), 0, 0} end
  end
  if not h then h, high = begin(k, genkey, high) end
  if p.age ~= h.age then h.age, h.due = p.age, 0 end
  if p.inbox or p.shared then count(k, h) end
  if p.shared then
    expire(k, h)
    if not hasshare(k, h, p) then
      sweep(k, h)
      save(k, h)
      return {FULL, gen, 0, 0, 0}
    end
  end
  append(k, h, p)
  bound(k, h, p.messages, p.bytes)
  expire(k, h)
  sweep(k, h)
  for _, reader in ipairs(p.readers) do
    if call('HEXISTS', k.cursors, reader) == 0 then know(k, h, reader, 0) end
  end
  if p.id ~= '' then useid(k, h, p.id) end
  save(k, h)
  local was = h['until']
  remember(k, h)
  if h['until'] ~= was then save(k, h) end
  local mark = math.max(now, h.top)
  if mark > high + SECOND then call('HSET', genkey, 'high', text(mark)) end
  local prev = visible(h, h.top - 1)
  local line = table.concat({gen, text(h.top), text(prev), text(h.at)}, ' ')
  call('SPUBLISH', p.channel, '\1p' .. line .. '\n' .. p.payload)
  return {TAKEN, gen, h.top, prev, h.at}
end

local out = {}
local i, n = 4, 0
local function word()
  i = i + 1
  return ARGV[i - 1]
end
local function number() return tonumber(word()) end
while n * 8 < #KEYS do
  local p = {
    channel = word(), payload = word(), size = number(), id = word(), messages = number(),
    age = number(), bytes = number(), ttl = number(),
    inbox = word() == '1', shared = word() == '1', sender = word(),
    readers = {},
  }
  for r = 1, number() do p.readers[r] = word() end
  out[n + 1] = part(KEYS[n * 8 + 1], keys(n * 8 + 2), p)
  n = n + 1
end
return out
