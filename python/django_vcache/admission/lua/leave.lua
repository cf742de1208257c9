-- Takes consumers that hold nothing off the group's list: one that stops, or all that were not heard of for long.
--
-- KEYS     streams
-- ARGV     group, consumer ('' all), least milliseconds idle
-- returns  how many
local gone = 0
for _, key in ipairs(KEYS) do
  -- Of a stream that was deleted there is no list.
  local listed = redis.call('EXISTS', key) == 1 and redis.call('XINFO', 'CONSUMERS', key, ARGV[1]) or {}
  for _, pairs in ipairs(listed) do
    local about = {}
    for at = 1, #pairs, 2 do
      about[pairs[at]] = pairs[at + 1]
    end
    local meant = ARGV[2] == '' or about['name'] == ARGV[2]
    if meant and about['pending'] == 0 and about['idle'] >= tonumber(ARGV[3]) then
      redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], about['name'])
      gone = gone + 1
    end
  end
end
return gone
