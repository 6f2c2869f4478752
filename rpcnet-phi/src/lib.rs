//! Accrual failure detection: how sure are we that it is gone?
