p.programme = any (:programmes)
  and (:verdict = '' or g.verdict = :verdict)
  and case :decision
      when '' then true
      when 'waiting' then g.decision is null and g.verdict = 'PROMOTE'
      when 'none' then g.decision is null and g.verdict <> 'PROMOTE'
      else g.decision = :decision
  end
