-- KEYS: the generation and the heads of streams. Returns {generation, top, …}, zero for a stream
-- that does not exist.
local out = {(generation(KEYS[1]))}
for i = 2, #KEYS do
  local h = head(KEYS[i])
  out[i] = h and h.top or 0
end
return out
