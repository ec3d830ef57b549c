"""Does a rule of decision name what each class's latent is, where that was planted?"""
