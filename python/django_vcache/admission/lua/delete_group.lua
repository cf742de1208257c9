-- Deletes a group with what is pending for it; on request also the entries that all other groups are done with.
--
-- KEYS     stream
-- ARGV     group, whether to delete entries ('1' or '0')
-- returns  {1 if there was such a group, how many entries were deleted}
local key = KEYS[1]
if redis.call('EXISTS', key) == 0 then
  return {0, 0}
end
local destroyed = redis.call('XGROUP', 'DESTROY', key, group)
if destroyed == 0 or not delete then
  return {destroyed, 0}
end

-- The first entry that somebody still wants: one that is pending, or any that is after what all have read.
local first, pending
for _, other in ipairs(other_groups(key)) do
  local lowest = redis.call('XPENDING', key, other['name'])[2]
  local wanted = lowest or other['last-delivered-id']
  if not first or (wanted ~= first and reached(wanted, first)) then
    first, pending = wanted, lowest
  elseif wanted == first then
    pending = pending or lowest
  end
end
if not first then
  return {destroyed, 0}
end
local deleted = redis.call('XTRIM', key, 'MINID', first)
if not pending then
  deleted = deleted + redis.call('XDEL', key, first)
end
return {destroyed, deleted}
