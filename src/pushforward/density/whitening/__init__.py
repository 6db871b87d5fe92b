"""Which linear maps and tail transforms bring the columns close to a standard Gaussian?"""
