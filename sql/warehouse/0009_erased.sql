-- Customers who asked to be forgotten.

-- One row per erased customer: no name, only a digest, by which their rows are kept out when they are pulled again.
create table nba.erased (
    programme_id smallint    not null references nba.programmes,
    customer     bigint      not null,  -- nba.hash63 with the purpose 'erased'
    erased_at    timestamptz not null default now(),
    erased_by    text        not null,
    primary key (programme_id, customer)
);
