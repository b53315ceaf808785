#!/usr/bin/env bash
# Makes crates/inspect/src/makers.txt anew: of the IEEE's list of makers (Debian package ieee-data) those whose devices send
# multicast or carry it. Each line below is the name that is shown, and how the IEEE's name begins.
set -euo pipefail
cd "$(dirname "$0")/.."

list=${1:-/usr/share/ieee-data/oui.csv}
[ -e "$list" ] || { echo "$list is not there; install ieee-data, or name an oui.csv" >&2; exit 1; }

python3 - "$list" > crates/inspect/src/makers.txt <<'PYTHON'
import csv, sys

# Cameras, broadcast and audio; controllers and instruments; network cards and switches; computers that are used as devices.
MAKERS = """
Axis=Axis Communications|Hikvision=Hangzhou Hikvision|Dahua=Zhejiang Dahua|Hanwha=Hanwha|Bosch Security=Bosch Security
Avigilon=Avigilon|Mobotix=MOBOTIX|Vivotek=VIVOTEK|Pelco=Pelco|Basler=Basler|Teledyne DALSA=Teledyne DALSA|FLIR=FLIR
Evertz=Evertz|Grass Valley=Grass Valley|Snell=Snell|Imagine=Imagine Communications|Harmonic=Harmonic|Lawo=Lawo|Riedel=Riedel
Blackmagic=Blackmagic|AJA=AJA Video|Matrox=Matrox|EVS=EVS Broadcast|Nevion=Nevion|Net Insight=Net Insight|Appear=Appear
Haivision=Haivision|Ateme=ATEME|Ross Video=Ross Video|Telestream=Telestream|Phabrix=Phabrix|Leader=Leader Electronics
Embrionix=Embrionix|Macnica=Macnica|Nextera=Nextera|DEKTEC=DekTec|Newtek=NewTek|Sony=Sony Corporation|Audinate=Audinate
Merging=Merging Technologies|ALC NetworX=ALC NetworX|Yamaha=Yamaha|QSC=QSC|Shure=Shure|Harman=Harman|Digigram=Digigram
DiGiCo=DiGiCo|Allen & Heath=Allen & Heath|RTW=RTW GmbH|Telos=Telos|Wheatstone=Wheatstone|Genelec=Genelec|Crestron=Crestron
Meinberg=Meinberg|Tektronix=Tektronix|Siemens=Siemens|Rockwell=Rockwell|Schneider=Schneider Electric|ABB=ABB|Beckhoff=Beckhoff
WAGO=WAGO|Phoenix Contact=Phoenix Contact|Omron=OMRON|Mitsubishi Electric=Mitsubishi Electric|B&R=B&R|Pilz=Pilz|SICK=SICK
Festo=FESTO|KUKA=KUKA|FANUC=FANUC|Yokogawa=Yokogawa|Emerson=Emerson|Honeywell=Honeywell|GE=GE |SEL=Schweitzer Engineering
National Instruments=National Instruments|Keysight=Keysight|Rohde & Schwarz=Rohde & Schwarz|Bachmann=Bachmann|Turck=Turck
Advantech=Advantech|Moxa=Moxa|Hirschmann=Hirschmann|Westermo=Westermo|HMS=HMS Industrial|Lenze=Lenze|SEW=SEW-EURODRIVE
Cisco=Cisco Systems|Arista=Arista|Juniper=Juniper|Mellanox=Mellanox|Broadcom=Broadcom|Intel=Intel Corp|Solarflare=Solarflare
Netgear=NETGEAR|Ubiquiti=Ubiquiti|MikroTik=Routerboard|Extreme=Extreme Networks|Chelsio=Chelsio|Realtek=Realtek
VMware=VMware|Raspberry Pi=Raspberry Pi|Xilinx=Xilinx|Super Micro=Super Micro|Dell=Dell |Apple=Apple, |HPE=Hewlett Packard Enterprise
"""
# Makers of so much else that all their blocks would be most of the table.
MOST_BLOCKS = 60
makers = [entry.split("=", 1) for line in MAKERS.strip().splitlines() for entry in line.split("|")]
found = {}
for _, block, organisation, _ in csv.reader(open(sys.argv[1], newline="", encoding="utf-8")):
    for shown, start in makers:
        if organisation.lower().startswith(start.lower()):
            found.setdefault(shown, []).append(block.lower())
lines = [f"{block} {shown}" for shown, blocks in found.items() for block in sorted(blocks)[:MOST_BLOCKS]]
print("\n".join(sorted(lines)))
PYTHON
