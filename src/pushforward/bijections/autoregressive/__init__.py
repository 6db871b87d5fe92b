r"""Autoregressive bijections $x_i = \tau(u_i;\, c_i(u_{<i}))$: any transformer with any conditioner.

The transformer $\tau$ is a scalar bijection; the conditioner $c$ is a network that sets the transformer's arrays by
`shift_arrays`.
"""
