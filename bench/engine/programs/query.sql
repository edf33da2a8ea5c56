-- Rows made, found by an index, grouped and joined, all in memory.
create table customer (id integer primary key, name text, region integer);
create table sale (id integer primary key, customer integer, amount integer, day integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
  insert into customer select i, 'customer ' || (i * 7919 % 1000), i % 13 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 12000)
  insert into sale select i, i * 7907 % 1000 + 1, i * i % 997, i % 365 from n;
create index by_customer on sale (customer);
select region, count(*), sum(amount) from customer join sale on sale.customer = customer.id
  group by region order by region;
select day, max(amount) from sale group by day order by 2 desc, 1 limit 5;
select count(*) from customer where name like '%9%' and id in (select customer from sale where amount > 900);
update sale set amount = amount + 1 where day % 7 = 0;
select sum(amount) from sale;
