-- The oldest ids of a stream, without the entries. These may be large, so they are looked at one by one.
--
-- KEYS     stream
-- ARGV     last id ('+' any), how many at the most
-- returns  ids
local ids, start = {}, '-'
for at = 1, tonumber(ARGV[2]) do
  local found = redis.call('XRANGE', KEYS[1], start, ARGV[1], 'COUNT', 1)[1]
  if not found then
    break
  end
  ids[at] = found[1]
  start = '(' .. found[1]
end
return ids
