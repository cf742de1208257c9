-- Acknowledges what a group has done, and deletes it when every group has.
--
-- KEYS     streams
-- ARGV     group, delete, then for each stream: how many ids, the ids
-- returns  how many were pending until now
local acknowledged = 0
local at = 3
for _, key in ipairs(KEYS) do
  local count = tonumber(ARGV[at])
  local ids = {}
  for offset = 1, count do
    ids[offset] = ARGV[at + offset]
  end
  at = at + count + 1
  acknowledged = acknowledged + forget(key, ids)
end
return acknowledged
