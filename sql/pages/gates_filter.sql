p.programme = any (:programmes)
  and (:verdict = '' or g.verdict = :verdict)
  and case :decision
      when '' then true
      when 'waiting' then g.decision is null and g.verdict = 'PROMOTE' and g.gate_id = newest.gate_id
      when 'none' then g.decision is null and not (g.verdict = 'PROMOTE' and g.gate_id = newest.gate_id)
      else g.decision = :decision
  end
