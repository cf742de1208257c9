-- Moves dead letters back to their stream, where every group gets them, as new entries.
--
-- KEYS     stream, dead letters
-- ARGV     ids of dead letters
-- returns  for each the new id, or '' if there is no such dead letter
local ours = {}
for _, name in ipairs({'id', 'group', 'consumer', 'deliveries', 'at', 'reason'}) do
  ours['dead:' .. name] = true
end

local moved = {}
for at, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', KEYS[2], id, id)[1]
  moved[at] = ''
  if found then
    local fields = {}
    for pair = 1, #found[2], 2 do
      if not ours[found[2][pair]] then
        fields[#fields + 1] = found[2][pair]
        fields[#fields + 1] = found[2][pair + 1]
      end
    end
    moved[at] = redis.call('XADD', KEYS[1], '*', unpack(fields))
    redis.call('XDEL', KEYS[2], id)
  end
end
return moved
