-- A run's log and its mailbox: every call is one atomic step on the keys of one run.
--
-- All keys of a run share the hash tag {run_id}, so they live in one slot of a Redis Cluster.
--   KEYS[1] log        stream  id "<seq>-0", field e = the event's JSON          trimmed when stored and old
--   KEYS[2] meta       hash    epoch head status phase stored held hb token step last asks stop_at before
--                      holder former since
--   KEYS[3] items      hash    item id -> JSON {seq,kind,mode,state,attempt,version,event_seq,holder,confirmed_seq,
--                              cancel_seq,to,shown}
--   KEYS[4] pending    zset    item id, score = seq: accepted, stored or leased
--   KEYS[5] leases     zset    item id, score = deadline in ms
--   KEYS[6] questions  hash    q:<id> -> JSON {seq,state,answer_seq,digest}; h:<handle> -> id
--   KEYS[7] open       hash    <id> -> "<units>|<chunks>"; <id>:<n> -> chunk; "o:" -> the ids that are open, "c:" -> the
--                              last that were closed, each with a comma                           gone at the end
--   KEYS[8] drain      string  set while a drain is queued (10 s)
--   KEYS[9] known      hash    event id -> seq: what a log that was rebuilt holds, since its keys are gone       24 h
--   KEYS[10…] key      string  one per idempotency key: "<digest>|<seq>"                        24 h
--   channel            every event as it stands in the stream; unnumbered frames start with {"type":
--
-- All of them are dropped some days after a run has ended and is stored; the store then gives them back.
--
-- ARGV[1] command, ARGV[2] channel, then the command's own. The first element of a reply says how it went.

local call = redis.call
local LOG, META, ITEMS, PENDING = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local LEASES, QUESTIONS, OPEN, DRAIN, KNOWN = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local command, CHANNEL = ARGV[1], ARGV[2]
local DRAIN_MS = 10000
local IDS_MAX = 500 -- ids in one receipt: ReceiptBody allows 1,000, and an item of the database 400 KB
local UNREAD_MAX = 50 -- what a refused finish shows: as much as one lease
local OPEN_MAX, CLOSED_MAX = 16, 64 -- streamed messages that are open, and closed ones that are remembered
local NEW_ITEM = '{"seq":%d,"kind":"%s","mode":"%s","state":"accepted","attempt":0,"version":1,"event_seq":%d}'
local ENDED = {completed = true, failed = true, stopped = true}

local wrote = false
local known = call('HMGET', META, 'epoch', 'status')
local epoch, status = known[1], known[2]

local function put(head)
  local seq = call('HINCRBY', META, 'head', 1)
  local json = '{"seq":' .. seq .. ',"epoch":"' .. epoch .. '",' .. string.sub(head, 2)
  call('XADD', LOG, seq .. '-0', 'e', json)
  call('PUBLISH', CHANNEL, json)
  wrote = true
  return seq, json
end

local function event(seq)
  local found = call('XRANGE', LOG, seq .. '-0', seq .. '-0')
  return found[1] and found[1][2][2] or ''
end

local function fill(head, mark, value)
  local at = string.find(head, mark, 1, true)
  return string.sub(head, 1, at - 1) .. value .. string.sub(head, at + #mark)
end

local function item_of(id)
  local json = call('HGET', ITEMS, id)
  return json and cjson.decode(json) or nil
end

local function keep(id, item)
  call('HSET', ITEMS, id, cjson.encode(item))
end

local function wake()
  if wrote and call('SET', DRAIN, '1', 'NX', 'PX', DRAIN_MS) then return 1 end
  return 0
end

-- Why an append is refused, or nil. `status` is where the run will be when its turn comes.
local function refusal(op, status, index)
  if ENDED[status] and not op.after_end then return {'ENDED', status} end
  if op.budget and call('HLEN', ITEMS) >= op.budget then return {'BUDGET', op.budget} end
  if op.sources then
    local allowed = false
    for _, source in ipairs(op.sources) do allowed = allowed or source == status end
    if not allowed then return {'MOVE', status, index} end
  end
  if op.answers then
    local json = call('HGET', QUESTIONS, 'q:' .. op.answers)
    if not json then return {'NO_QUESTION', op.answers} end
    local question = cjson.decode(json)
    if question.state ~= 'open' then
      return {'ANSWERED', question.answer_seq, event(question.answer_seq)}
    end
  end
  return nil
end

local function body_of(json)
  return string.sub(json, (string.find(json, '"body":', 1, true)))
end

-- An earlier append that this one repeats: {seq, json, 1}, or a refusal, or nil. Where its key is gone (the log
-- was rebuilt, or it is long ago) it is known by its id, which follows from the key.
local function earlier(op, head)
  if op.key then
    local kept = call('GET', KEYS[op.key])
    if kept then
      local bar = string.find(kept, '|', 1, true)
      if string.sub(kept, 1, bar - 1) ~= op.digest then return nil, {'MISMATCH', op.id} end
      local seq = tonumber(string.sub(kept, bar + 1))
      local json = event(seq)
      -- unless the log was rebuilt under other numbers
      local known = json == '' and not call('HGET', KNOWN, op.id)
      if known or string.find(json, '"id":"' .. op.id .. '"', 1, true) then return {seq, json, 1} end
    end
    local seq = tonumber(call('HGET', KNOWN, op.id))
    if not seq and op.mode then
      local item = item_of(op.id)
      seq = item and item.seq
    end
    if seq then
      local json = event(seq)
      if op.digest ~= '' and json ~= '' and body_of(json) ~= body_of(head) then return nil, {'MISMATCH', op.id} end
      return {seq, json, 1}
    end
  end
  if op.opens then
    local id = call('HGET', QUESTIONS, 'h:' .. op.opens)
    if id then
      local question = cjson.decode(call('HGET', QUESTIONS, 'q:' .. id))
      return {question.seq, event(question.seq), 1}
    end
  end
  if op.answers then
    local json = call('HGET', QUESTIONS, 'q:' .. op.answers)
    if json then
      local question = cjson.decode(json)
      if question.state ~= 'open' and question.digest == op.digest then
        return {question.answer_seq, event(question.answer_seq), 1}
      end
    end
  end
  return nil
end

local function listed(name)
  return call('HGET', OPEN, name) or ''
end

local function drop_text(id)
  local kept = call('HGET', OPEN, id)
  if not kept then return end
  local chunks = tonumber(string.sub(kept, string.find(kept, '|', 1, true) + 1))
  for n = 1, chunks do call('HDEL', OPEN, id .. ':' .. n) end
  call('HDEL', OPEN, id)
  local ids = listed('o:')
  local at = string.find(ids, id .. ',', 1, true)
  call('HSET', OPEN, 'o:', string.sub(ids, 1, at - 1) .. string.sub(ids, at + #id + 1))
end

local function close_text(id)
  drop_text(id)
  call('HSET', OPEN, 'c:', string.sub(listed('c:') .. id .. ',', -CLOSED_MAX * (#id + 1)))
end

-- Streams that nobody ever completes push one another out; their sender is told 0 and begins again.
local function open_text(id)
  local ids = listed('o:')
  local _, count = string.gsub(ids, ',', ',')
  if count >= OPEN_MAX then drop_text(string.sub(ids, 1, string.find(ids, ',', 1, true) - 1)) end
  call('HSET', OPEN, 'o:', listed('o:') .. id .. ',')
end

local function apply(op, head)
  local seq, json = put(head)
  if op.key then call('SET', KEYS[op.key], op.digest .. '|' .. seq, 'EX', op.key_ttl_s) end
  if op.mode then
    call('HSET', ITEMS, op.id, string.format(NEW_ITEM, seq, op.kind, op.mode, seq))
    call('ZADD', PENDING, seq, op.id)
  end
  if op.status then
    if op.status == 'unresponsive' then
      call('HSET', META, 'before', call('HGET', META, 'status'))
    end
    if op.status ~= call('HGET', META, 'status') then call('HSET', META, 'since', seq) end
    call('HSET', META, 'status', op.status, 'phase', op.phase or '')
  end
  if op.stop_at then call('HSET', META, 'stop_at', op.stop_at) end
  if op.holds ~= nil then call('HSET', META, 'held', op.holds and '1' or '0') end
  if op.opens then
    call('HSET', QUESTIONS, 'q:' .. op.id, cjson.encode({seq = seq, state = 'open'}),
               'h:' .. op.opens, op.id)
    call('HINCRBY', META, 'asks', 1)
  end
  if op.answers then
    local question = cjson.decode(call('HGET', QUESTIONS, 'q:' .. op.answers))
    question.state, question.answer_seq, question.digest = 'answered', seq, op.digest
    call('HSET', QUESTIONS, 'q:' .. op.answers, cjson.encode(question))
    call('HINCRBY', META, 'asks', -1)
  end
  if op.closes then close_text(op.closes) end
  if op.kind == 'step' then call('HSET', META, 'step', seq) end
  if op.last then call('HSET', META, 'last', op.last) end
  return {seq, json, 0}
end

-- ops: JSON array; heads follow from ARGV[first]
local function append(ops, first)
  local status = status
  local plan, keys = {}, {}
  for index, op in ipairs(ops) do
    local twin = op.key and keys[KEYS[op.key]]
    if twin then
      if ops[twin].digest ~= op.digest then return {'MISMATCH', op.id} end
      plan[index] = twin
    else
      local before, bad = earlier(op, ARGV[first + index - 1])
      bad = bad or (not before and refusal(op, status, index))
      if bad then return bad end
      plan[index] = before or false
      if not before and op.status then status = op.status end
      if op.key then keys[KEYS[op.key]] = index end
    end
  end
  local results = {}
  for index, op in ipairs(ops) do
    local known = plan[index]
    if type(known) == 'number' then known = {results[known][1], results[known][2], 1} end
    results[index] = known or apply(op, ARGV[first + index - 1])
  end
  return {'OK', results, wake(), status}
end

-- Most calls are this one: it goes before what only the others need is even defined, which costs as much as it does.
if command == 'append' then
  if not epoch then return {'MISSING'} end
  return append(cjson.decode(ARGV[3]), 4)
end

-- A receipt about any number of ids: as many events as it takes, the second and later under ids of their own.
local said = {}
local function say(head, ids, attempt)
  local seq
  for first = 1, #ids, IDS_MAX do
    local part = {}
    for index = first, math.min(first + IDS_MAX - 1, #ids) do part[#part + 1] = ids[index] end
    said[head] = (said[head] or 0) + 1
    local own = head
    if said[head] > 1 then
      own = string.gsub(head, '"id":"(rcp_%w*)%w%w%w"', function(start)
        return '"id":"' .. start .. string.format('%03d', said[head]) .. '"'
      end, 1)
    end
    own = fill(own, '"@ids"', cjson.encode(part))
    if attempt then own = fill(own, '"@attempt"', attempt) end
    seq = put(own)
  end
  return seq
end

-- Leases past their deadline, or of another holder, go back into the queue.
local function give_back(ids, head)
  local back = {}
  for _, id in ipairs(ids) do
    call('ZREM', LEASES, id)
    local item = item_of(id)
    if item and item.state == 'leased' then
      item.state, item.holder = 'stored', nil
      keep(id, item)
      back[#back + 1] = id
    end
  end
  say(head, back)
  return back
end

-- Whether the holder may lease: a new one takes over from the last, and that one, should a poll of it
-- still wait somewhere, must not take it back. The last thirty or so are remembered.
local function takes_over(holder)
  local present = call('HMGET', META, 'holder', 'former')
  if present[1] == holder then return true end
  local former, mark = present[2] or '', '\n' .. holder .. '\n'
  if string.find(former, mark, 1, true) then return false end
  if present[1] then former = string.sub('\n' .. present[1] .. '\n' .. former, 1, 2000) end
  call('HSET', META, 'holder', holder, 'former', former)
  return true
end

local function lease(holder, now, lease_ms, limit, task_end, head_back, head_leased)
  if status == 'suspended' then return {} end -- what is said to a run on hold is for its next process
  if not takes_over(holder) then return {} end
  local lost = {}
  for _, id in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    local item = item_of(id)
    if not item or item.holder ~= holder or tonumber(call('ZSCORE', LEASES, id)) <= now then lost[#lost + 1] = id end
  end
  give_back(lost, head_back)
  local held = call('HGET', META, 'held') == '1'
  local taken, attempts, by_attempt = {}, {}, {}
  for _, id in ipairs(call('ZRANGE', PENDING, 0, -1)) do
    if #taken >= limit then break end
    local item = item_of(id)
    local wanted = item.state == 'stored'
      and (task_end or item.mode ~= 'queue')
      and (not held or item.kind == 'order')
    if wanted then
      item.state, item.holder, item.attempt = 'leased', holder, item.attempt + 1
      keep(id, item)
      call('ZADD', LEASES, now + lease_ms, id)
      if not by_attempt[item.attempt] then
        attempts[#attempts + 1] = item.attempt
        by_attempt[item.attempt] = {}
      end
      table.insert(by_attempt[item.attempt], id)
      taken[#taken + 1] = {id, cjson.encode(item), event(item.event_seq)}
    end
  end
  for _, attempt in ipairs(attempts) do say(head_leased, by_attempt[attempt], attempt) end
  return taken
end

local function run(name)
  if name == 'create' then
    if epoch and call('HGET', META, 'head') ~= '0' then return {'EXISTS'} end
    if not epoch then -- else it was rebuilt from a store that had only the run's row
      epoch, status = ARGV[3], 'queued'
      call('HSET', META, 'epoch', epoch, 'head', 0, 'status', 'queued', 'stored', 0, 'held', '0',
                 'hb', ARGV[4], 'token', ARGV[5], 'asks', 0)
    end
    return append(cjson.decode(ARGV[6]), 7)
  end
  if not epoch then return {'MISSING'} end

  if name == 'snapshot' then
    local meta = call('HGETALL', META)
    local items, questions = {}, {}
    for _, id in ipairs(call('ZRANGE', PENDING, 0, -1)) do
      items[#items + 1] = {id, call('HGET', ITEMS, id)}
    end
    local kept = call('HGETALL', QUESTIONS)
    for index = 1, #kept, 2 do
      if string.sub(kept[index], 1, 2) == 'q:' then
        local question = cjson.decode(kept[index + 1])
        if question.state == 'open' then questions[#questions + 1] = {question.seq, event(question.seq)} end
      end
    end
    local step = call('HGET', META, 'step')
    return {'OK', meta, items, questions, call('HGETALL', OPEN),
            tonumber(step) or 0, step and event(step) or ''}

  elseif name == 'question' then
    local id = ARGV[3]
    if ARGV[4] == 'handle' then id = call('HGET', QUESTIONS, 'h:' .. ARGV[3]) end
    local json = id and call('HGET', QUESTIONS, 'q:' .. id)
    if not json then return {'NO_QUESTION', ARGV[3]} end
    local question = cjson.decode(json)
    local answer = question.answer_seq
    return {'OK', question.seq, event(question.seq), answer or 0, answer and event(answer) or ''}

  elseif name == 'lease' then
    local taken = lease(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1',
                        ARGV[8], ARGV[9])
    local state = call('HMGET', META, 'status', 'held', 'head')
    return {'OK', taken, wake(), state[1], state[2], state[3]}

  elseif name == 'confirm' then
    local ids = cjson.decode(ARGV[3])
    local fresh = {}
    for _, id in ipairs(ids) do
      local item = item_of(id)
      if item and (item.state == 'accepted' or item.state == 'stored' or item.state == 'leased') then
        fresh[#fresh + 1] = id
      end
    end
    local seq = say(ARGV[4], fresh)
    for _, id in ipairs(fresh) do
      local item = item_of(id)
      item.state, item.holder, item.confirmed_seq = 'in_context', nil, seq
      keep(id, item)
      call('ZREM', PENDING, id)
      call('ZREM', LEASES, id)
    end
    local states = {}
    for _, id in ipairs(ids) do states[#states + 1] = {id, call('HGET', ITEMS, id) or ''} end
    return {'OK', states, wake()}

  elseif name == 'release' then
    local holder, ids = ARGV[3], cjson.decode(ARGV[4])
    if #ids == 0 then ids = call('ZRANGE', LEASES, 0, -1) end
    local own = {}
    for _, id in ipairs(ids) do
      local item = item_of(id)
      if item and item.holder == holder then own[#own + 1] = id end
    end
    return {'OK', give_back(own, ARGV[5]), wake()}

  elseif name == 'expire' then
    return {'OK', give_back(call('ZRANGEBYSCORE', LEASES, '-inf', ARGV[3]), ARGV[4]), wake()}

  elseif name == 'forward' then
    local stored = tonumber(call('HGET', META, 'stored'))
    local ids, which = {}, ARGV[4] ~= '' and cjson.decode(ARGV[4]) or call('ZRANGE', PENDING, 0, -1)
    for _, id in ipairs(which) do
      local item = item_of(id)
      if item and item.state == 'accepted' and item.event_seq <= stored then
        item.state = 'stored'
        keep(id, item)
        ids[#ids + 1] = id
      end
    end
    say(ARGV[3], ids)
    return {'OK', ids, wake()}

  elseif name == 'edit' or name == 'cancel' then
    local id, version = ARGV[3], tonumber(ARGV[4])
    local item = item_of(id)
    if not item then return {'NO_ITEM', id} end
    if name == 'cancel' and item.state == 'cancelled' and item.cancel_seq then
      return {'OK', {{item.cancel_seq, event(item.cancel_seq), 1}}, 0}
    end
    local json = cjson.encode(item)
    -- what was handed out once may be in the agent's context, also when it was given back
    if item.state ~= 'accepted' and item.state ~= 'stored' or item.attempt > 0 or item.shown then return {'TAKEN', json} end
    if version > 0 and version ~= item.version then return {'STALE', json} end
    local seq, data = put(ARGV[6])
    if name == 'edit' then
      item.event_seq = seq
      item.state, item.version, item.mode = 'accepted', item.version + 1, ARGV[5]
    else
      item.state, item.cancel_seq = 'cancelled', seq
      call('ZREM', PENDING, id)
    end
    keep(id, item)
    return {'OK', {{seq, data, 0}}, wake()}

  elseif name == 'finish' then
    -- 3 barrier 4 ops 5 holder 6 now 7 lease_ms 8 head_back 9 head_leased 10 head_undelivered 11 head_cancelled 12… heads
    local ops = cjson.decode(ARGV[4])
    if ENDED[status] then return {'ENDED', status} end
    for index, op in ipairs(ops) do
      local bad = refusal(op, status, index)
      if bad then return bad end
    end
    if ARGV[3] == '1' and call('ZCARD', PENDING) > 0 then
      lease(ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), UNREAD_MAX, true, ARGV[8], ARGV[9])
      local unread = {}
      for _, id in ipairs(call('ZRANGE', PENDING, 0, UNREAD_MAX - 1)) do
        local item = item_of(id)
        if item.state ~= 'leased' then
          item.shown = true
          keep(id, item)
        end
        unread[#unread + 1] = {id, cjson.encode(item), event(item.event_seq)}
      end
      return {'UNREAD', unread, wake()}
    end
    if ops[#ops].status == 'suspended' then -- it goes on later: its questions and its token stay
      local held = {}
      for index, op in ipairs(ops) do held[index] = apply(op, ARGV[11 + index]) end
      call('DEL', OPEN)
      return {'OK', held, wake()}
    end
    local results, left = {}, call('ZRANGE', PENDING, 0, -1)
    if #left > 0 then
      results[#results + 1] = {say(ARGV[10], left), '', 0}
      for _, id in ipairs(left) do
        local item = item_of(id)
        item.state, item.holder = 'undelivered', nil
        keep(id, item)
      end
    end
    local kept = call('HGETALL', QUESTIONS)
    for index = 1, #kept, 2 do
      local question = string.sub(kept[index], 1, 2) == 'q:' and cjson.decode(kept[index + 1])
      if question and question.state == 'open' then
        local id = string.sub(kept[index], 3)
        local head = fill(fill(ARGV[11], '"@id"', '"ans' .. string.sub(id, 4) .. '"'), '"@qid"', '"' .. id .. '"')
        local seq, json = put(head)
        question.state, question.answer_seq, question.digest = 'cancelled', seq, ''
        call('HSET', QUESTIONS, kept[index], cjson.encode(question))
        results[#results + 1] = {seq, json, 0}
      end
    end
    for index, op in ipairs(ops) do results[#results + 1] = apply(op, ARGV[11 + index]) end
    call('DEL', PENDING, LEASES, OPEN)
    call('HSET', META, 'asks', 0)
    call('HDEL', META, 'token')
    return {'OK', results, wake()}

  elseif name == 'heartbeat' then
    local holder, now, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
    call('HSET', META, 'hb', now)
    for _, id in ipairs(call('ZRANGE', LEASES, 0, -1)) do
      local item = item_of(id)
      if item and item.holder == holder then call('ZADD', LEASES, tonumber(now) + lease_ms, id) end
    end
    local state = call('HMGET', META, 'status', 'held', 'phase', 'before')
    return {'OK', state[1], state[2], call('ZCARD', PENDING), state[3] or '', state[4] or ''}

  elseif name == 'delta' then
    local id, offset, units, text, frame = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7]
    if ENDED[status] then return {'ENDED', status} end
    if string.find(listed('c:'), id .. ',', 1, true) then return {'OK', offset + units} end
    local kept = call('HGET', OPEN, id) or '0|0'
    local bar = string.find(kept, '|', 1, true)
    local length, chunks = tonumber(string.sub(kept, 1, bar - 1)), tonumber(string.sub(kept, bar + 1))
    if offset ~= length or units == 0 then return {'OK', length} end
    if length == 0 then open_text(id) end
    call('HSET', OPEN, id, (length + units) .. '|' .. (chunks + 1), id .. ':' .. (chunks + 1), text)
    call('PUBLISH', CHANNEL, frame)
    return {'OK', length + units}

  elseif name == 'mark_stored' then
    local upto, of, since = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
    local meta = call('HMGET', META, 'stored', 'head')
    if of ~= '' and of ~= epoch then
      -- What was written there is of a log that is gone, and may have covered what is of this one: that is
      -- written again.
      if since < tonumber(meta[1]) then call('HSET', META, 'stored', since) end
      return {'OK', 0}
    end
    upto = math.min(upto, tonumber(meta[2]))
    if upto > tonumber(meta[1]) then call('HSET', META, 'stored', upto) end
    return {'OK', 1}

  elseif name == 'claim' then
    -- Which run an undelivered item moves to: the first that asked, unless that one is named as given up.
    local id, target, given_up = ARGV[3], ARGV[4], ARGV[5]
    local item = item_of(id)
    if not item then return {'NO_ITEM', id} end
    if item.state ~= 'undelivered' then return {'OK', ''} end
    if not item.to or item.to == given_up then
      item.to = target
      keep(id, item)
    end
    return {'OK', item.to}

  elseif name == 'mark_moved' then
    local id = ARGV[3]
    local item = item_of(id)
    if not item then return {'NO_ITEM', id} end
    if item.state ~= 'undelivered' then return {'OK', {}, 0} end
    local seq, data = put(ARGV[4])
    item.state = 'moved'
    keep(id, item)
    return {'OK', {{seq, data, 0}}, wake()}

  elseif name == 'trim' then
    local meta = call('HMGET', META, 'head', 'stored')
    local first = math.min(tonumber(meta[1]) - tonumber(ARGV[3]), tonumber(meta[2])) + 1
    if first > 1 then call('XTRIM', LOG, 'MINID', first .. '-0') end
    return {'OK'}
  end
  return redis.error_reply('unknown command ' .. name)
end

return run(command)
