-- Creates a group where it is missing, from the first entry on, and the stream with it.
--
-- KEYS     streams
-- ARGV     group
-- returns  in how many of them it was missing
local count = 0
for _, key in ipairs(KEYS) do
  local created = redis.pcall('XGROUP', 'CREATE', key, ARGV[1], '0', 'MKSTREAM')
  if not created['err'] then
    count = count + 1
  elseif not string.find(created['err'], '^BUSYGROUP') then
    return created
  end
end
return count
