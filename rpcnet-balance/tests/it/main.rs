//! Integration tests of the balancers, outlier detection and retry budgets.

mod budget_and_quantiles;
mod call_kinds;
mod contract;
mod health;
mod keys;
mod long_idle_times;
mod properties;
mod strategies;
mod success_batches;
