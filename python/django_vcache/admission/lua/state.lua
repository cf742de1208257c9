-- What there is of a stream, and who reads it.
--
-- KEYS     streams, then as many dead letters
-- returns  for each stream: {whether there is any of both, entries, dead letters, {{what XINFO tells of a group, what it
--          tells of the group's consumers} ..}}
local count = #KEYS / 2
local told = {}
for shard = 1, count do
  local key, dead = KEYS[shard], KEYS[count + shard]
  local groups = {}
  if redis.call('EXISTS', key) == 1 then
    for _, about in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      -- Its name comes first.
      groups[#groups + 1] = {about, redis.call('XINFO', 'CONSUMERS', key, about[2])}
    end
  end
  told[shard] = {redis.call('EXISTS', key, dead), redis.call('XLEN', key), redis.call('XLEN', dead), groups}
end
return told
