"""The HE worker: computes encrypted queries beside a node. It never holds a key share."""
