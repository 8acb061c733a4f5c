//! Tidemill: a streaming SQL server. Views over topics that are always up to date.
//!
//! The modules stand in dependency order: a module may use only modules above it in this list, and
//! `tidy` keeps it so. `docs/architecture.md` tells what each is for and what it must not know.

pub mod error;

pub mod base;
pub mod config;
pub mod types;

pub mod delta;
pub mod sql;

pub mod function;
pub mod storage;

pub mod format;

pub mod connector;

pub mod operator;
pub mod view;

pub mod catalog;
pub mod plan;

pub mod dataflow;
pub mod system;

pub mod engine;

pub mod http;
pub mod wire;

pub mod server;

pub mod cli;

#[cfg(test)]
mod tidy;
