-- One row per contact of a night's list, the most valuable first. (In the CRM.)
select customer_id, action_id, channel, expected_value, value_over_no_action, reason
from {{ campaign_list | identifier }}
where programme = :programme and list_date = :list_date
order by value_over_no_action desc nulls last, customer_id
limit :rows offset :offset
