//! Refunds, of a quota and of a gate.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::Connection;
use vcache::admission::{Gate, Quota, Receipt, Refund};
use vcache::python::to_exception;

use super::call::{Call, Outcome};
use super::decision::PyRefund;
use super::server::server;

/// What gives receipts.
pub(super) trait Refunds: Send + Sync + 'static {
    fn refund(
        &self,
        conn: &Connection,
        receipt: &Receipt,
    ) -> impl Future<Output = vcache::Result<Refund>> + Send;
}

impl Refunds for Quota {
    async fn refund(&self, conn: &Connection, receipt: &Receipt) -> vcache::Result<Refund> {
        self.refund(conn, receipt).await
    }
}

impl Refunds for Gate {
    async fn refund(&self, conn: &Connection, receipt: &Receipt) -> vcache::Result<Refund> {
        self.refund(conn, receipt).await
    }
}

/// Gives back what was charged under a receipt; nothing where limits are switched off.
pub(super) fn refunded<R: Refunds>(
    py: Python<'_>,
    from: &Arc<R>,
    alias: &str,
    receipt: &str,
) -> PyResult<Call<impl Outcome<Refund> + use<R>, Refund>> {
    let receipt: Receipt = receipt.parse().map_err(|error| to_exception(py, &error))?;
    let (conn, from) = (server(py, alias)?, Arc::clone(from));
    let refund = async move {
        match conn {
            Some(conn) => from.refund(&conn, &receipt).await,
            None => Ok(Refund::default()),
        }
    };
    Ok(Call::new(refund, PyRefund::make))
}
