-- One row per published list among the given nights: whether it may still be sent. (In the CRM.)
select list_date, run_id, published_at, valid_until, expired_at, expired_reason
from publications
where programme = :programme and list_date = any (:list_dates)
