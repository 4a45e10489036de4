-- One row per customer as the CRM knows them at this moment: still with us, and the channels that consent rules out.
select
    customer_id::text as customer_id,
    closed_at is not null and closed_at <= now() as closed
{%- for column in consents %},
    coalesce({{ column | identifier }}, false) as {{ column | identifier }}
{%- endfor %}

from {{ customers | identifier }}
