"""An order of an epoch as one array."""


def positions_of(order, seed, epoch):
    return order.draw(seed, epoch).part(0, order.n)
