//! What is said by the link of an attachment, in either family.

use crate::exchange::{Exchange, Extension, Whom};
use crate::grant::{DhcpVersion, Grant};
use crate::interface::{ContainerInterface, OpenLink};
use crate::protocol::Ipv6Source;
use crate::registry::{Record, Registry};
use crate::v6;
use common::cni::{Ip, report};
use common::net::LinkLocalSocket;
use common::{Code, Error, Result};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long to wait for a link-local address, which the kernel probes for a second or two, and how
/// often to look.
const SETTLE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What routers say about addresses.
#[derive(Debug)]
pub(crate) enum Addressing {
    /// They are leased.
    Leased,
    /// They are these.
    Own(Vec<Ip>),
}

impl Registry {
    /// Asks for a lease, once.
    ///
    /// # Errors
    /// Code 4 when the link is gone, 11 when another try may succeed.
    pub(crate) async fn acquire_once(&self, record: &Record, family: DhcpVersion) -> Result<Grant> {
        if family == DhcpVersion::V4 {
            self.raise(&record.interface).await?;
            let link = self.open_link(&record.interface).await?;
            return self.exchange(&link, record).acquire().await.map(Grant::V4);
        }
        let socket = self.link_local(&record.interface).await?;
        self.exchange_v6(&socket, record).acquire().await.map(Grant::V6)
    }

    /// Asks for more time.
    ///
    /// # Errors
    /// Code 4 when the link is gone.
    pub(crate) async fn extend(
        &self,
        record: &Record,
        grant: &Grant,
        whom: Whom,
    ) -> Result<Extension<Grant>> {
        match grant {
            Grant::V4(lease) => {
                let link = self.open_link(&record.interface).await?;
                let extension = self.exchange(&link, record).extend(lease, whom).await?;
                Ok(extension.map(Grant::V4))
            }
            Grant::V6(lease) => {
                let socket = self.link_local(&record.interface).await?;
                let extension = self.exchange_v6(&socket, record).extend(lease, whom).await?;
                Ok(extension.map(Grant::V6))
            }
        }
    }

    /// Tells the servers that the leases of an attachment are not needed any more.
    pub(crate) async fn release(&self, record: &Record) {
        for grant in record.grants.iter().filter(|grant| grant.is_valid()) {
            if let Err(error) = self.release_one(record, grant).await {
                let (id, address) = (&record.id, grant.address());
                report(format_args!("{id}: no server knows that {address} is free: {error}"));
            }
        }
    }

    async fn release_one(&self, record: &Record, grant: &Grant) -> Result<()> {
        // Whoever has switched it off, it is about to go anyway.
        self.raise(&record.interface).await?;
        match grant {
            Grant::V4(lease) => {
                let link = self.open_link(&record.interface).await?;
                self.exchange(&link, record).release(lease)
            }
            Grant::V6(lease) => {
                let socket = self.link_local(&record.interface).await?;
                self.exchange_v6(&socket, record).release(lease).await
            }
        }
    }

    /// Has a link listen to routers, and waits for what they say about addresses, if that is asked for.
    ///
    /// # Errors
    /// Code 11 when they say nothing.
    pub(crate) async fn ask_routers(
        &self,
        record: &Record,
        ipv6: Ipv6Source,
    ) -> Result<Addressing> {
        let (interface, is_autoconfigured) = (record.interface.clone(), ipv6 != Ipv6Source::Dhcp);
        self.kernel.run(move || interface.listen_to_routers(is_autoconfigured)).await?;
        if ipv6 == Ipv6Source::Dhcp {
            return Ok(Addressing::Leased);
        }
        let advertised = async {
            loop {
                let interface = record.interface.clone();
                let found = self.kernel.run(move || interface.advertised()).await?;
                if found.is_managed && ipv6 == Ipv6Source::Auto {
                    return Ok(Addressing::Leased);
                }
                if !found.ips.is_empty() {
                    return Ok(Addressing::Own(found.ips));
                }
                sleep(PAUSE).await;
            }
        };
        timeout(self.settings.timeout, advertised).await.unwrap_or_else(|_| {
            let ifname = &record.id.ifname;
            let msg = format!("no router has advertised an address for {ifname:?}");
            Err(Error::new(Code::TryAgain, msg).details(
                "is there a router on the segment that advertises a prefix with the flag A?",
            ))
        })
    }

    async fn raise(&self, interface: &ContainerInterface) -> Result<()> {
        let interface = interface.clone();
        self.kernel.run(move || interface.raise()).await
    }

    async fn open_link(&self, interface: &ContainerInterface) -> Result<OpenLink> {
        let interface = interface.clone();
        self.kernel.run(move || interface.open()).await
    }

    async fn link_local(&self, interface: &ContainerInterface) -> Result<LinkLocalSocket> {
        let opened = async {
            loop {
                let interface = interface.clone();
                if let Some(socket) = self.kernel.run(move || interface.open_v6()).await? {
                    return Ok(socket);
                }
                sleep(PAUSE).await;
            }
        };
        timeout(SETTLE, opened).await.unwrap_or_else(|_| {
            let msg = format!(
                "port {} of the link-local address cannot be used, or there is none",
                v6::exchange::CLIENT_PORT
            );
            Err(Error::new(Code::TryAgain, msg))
        })
    }

    fn exchange<'a>(&self, link: &'a OpenLink, record: &'a Record) -> Exchange<'a> {
        let patience = self.settings.timeout;
        Exchange::new(link, &record.id, &record.options, patience)
            .broadcast(self.settings.broadcast)
    }

    fn exchange_v6<'a>(
        &self,
        socket: &'a LinkLocalSocket,
        record: &Record,
    ) -> v6::exchange::Exchange<'a> {
        v6::exchange::Exchange::new(socket, &record.id, self.settings.timeout)
    }
}
