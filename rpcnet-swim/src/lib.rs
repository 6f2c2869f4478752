//! Membership by gossip: SWIM with phi-accrual evidence as a sans-io engine and a tokio driver.
