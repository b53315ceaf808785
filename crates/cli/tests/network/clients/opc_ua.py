"""Publishes, or subscribes to and prints, a counter, a number and a text: opc_ua.py publish|subscribe URL VALUES."""

import asyncio
import sys

from asyncua import pubsub, ua
from asyncua.pubsub.udp import UdpSettings

PUBLISHER = ua.Variant(ua.UInt16(7))
GROUP, WRITER = ua.UInt16(3), ua.UInt16(21)
FIELDS = {"Count": ua.VariantType.UInt32, "Flow": ua.VariantType.Double, "Name": ua.VariantType.String}


def description():
    meta = pubsub.DataSetMeta.Create("Pump")
    for name, kind in FIELDS.items():
        meta.add_field(pubsub.DataSetField.CreateScalar(name, kind))
    return meta


class Values(pubsub.PubSubDataSource):
    """Counts with each message, up to the last."""

    def __init__(self, last):
        self.last, self.count, self.done = last, 0, asyncio.Event()

    async def on_get_value(self):
        self.count += 1
        if self.count >= self.last:
            self.done.set()
        values = self.count, self.count / 4, f"pump {self.count}"
        return [ua.DataValue(ua.Variant(value, kind)) for value, kind in zip(values, FIELDS.values())]


class Printer:
    """Prints so many sets of values."""

    def __init__(self, last):
        self.last, self.done = last, asyncio.Event()

    async def on_dataset_received(self, meta, fields):
        values = [field.Value.Value.Value for field in fields]
        print(*values, flush=True)
        if values[0] >= self.last:
            self.done.set()

    async def on_state_change(self, meta, state):
        pass


async def publish(url, last):
    values = Values(last)
    writer = pubsub.DataSetWriter.new_uadp("Writer", "Pump", WRITER, datavalue=True)
    group = pubsub.WriterGroup.new_uadp("Group", GROUP, publishing_interval=ua.Duration(20), writer=[writer])
    settings = UdpSettings(Url=url, Loopback=False, TTL=1)
    connection = pubsub.PubSubConnection.udp_uadp("Out", PUBLISHER, settings, writer_groups=[group])
    data = pubsub.PublishedDataSet.Create("Pump", description(), values)
    await run(connection, values.done, [data])


async def subscribe(url, last):
    printer = Printer(last)
    reader = pubsub.DataSetReader.new(PUBLISHER, GROUP, WRITER, description(), enabled=True, subscribed=printer)
    group = pubsub.ReaderGroup.new("Group", reader=[reader], enable=True)
    connection = pubsub.PubSubConnection.udp_uadp("In", ua.UInt16(8), UdpSettings(Url=url), reader_groups=[group])
    await run(connection, printer.done, [])


async def run(connection, done, data):
    application = pubsub.PubSub.new([], data)
    await application.add_connection(connection)
    async with application:
        await asyncio.wait_for(done.wait(), 20)
        # What was made last is still to be sent.
        await asyncio.sleep(0.1)


role, url, last = sys.argv[1:]
asyncio.run({"publish": publish, "subscribe": subscribe}[role](url, int(last)))
