app_name = "hardware"
urlpatterns: list = []
