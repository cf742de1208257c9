-- Deletes a group with what is pending for it; on request before that the entries that all other groups are done with. Of
-- these it looks at so many at a time, and is sent again until all are seen. Without a group it only deletes entries.
--
-- KEYS     stream
-- ARGV     group ('' none), whether to delete entries ('1' or '0'), the id to begin with ('-' is the first, '(' goes after one)
-- returns  {1 if there is such a group, how many entries were deleted, the id to begin with next, or '' if that was all}
local AT_ONCE = 100  -- each is read with its payload

local key = KEYS[1]
local start = ARGV[3]
local others = other_groups(key)
local listed = redis.call('EXISTS', key) == 1 and #redis.call('XINFO', 'GROUPS', key) or 0
if group ~= '' and listed == #others then
  return {0, 0, ''}
end

local deleted = 0
if delete and #others > 0 then
  -- How far all have read, and from where on something may be pending for one.
  local read, first
  for _, other in ipairs(others) do
    local last = other['last-delivered-id']
    local from = redis.call('XPENDING', key, other['name'])[2] or last
    if not read or reached(last, read) then
      read = last
    end
    if not first or reached(from, first) then
      first = from
    end
  end
  if start == '-' then
    deleted = redis.call('XTRIM', key, 'MINID', first)
  end
  local ids = {}
  for _, entry in ipairs(redis.call('XRANGE', key, start, read, 'COUNT', AT_ONCE)) do
    ids[#ids + 1] = entry[1]
  end
  deleted = deleted + delete_unwanted(key, ids, others)
  if #ids == AT_ONCE then
    return {1, deleted, '(' .. ids[#ids]}
  end
end
if group ~= '' then
  redis.call('XGROUP', 'DESTROY', key, group)
end
return {1, deleted, ''}
